# SPDX-License-Identifier: LGPL-2.1-or-later
"""The commands about PIN and PUK, by one session (SP 800-73-5 part 2, 3.2.1 to 3.2.3)."""

from __future__ import annotations

import hmac
from collections.abc import Coroutine
from typing import Any

from vccid.card.pin import Outcome, Verdict
from vccid.card.piv.access import TRIES_KEPT, Access
from vccid.card.piv.commands import (
    ChangeReference,
    ForgetPin,
    QueryPin,
    ResetRetryCounter,
    VerifyPin,
    parse_verify,
)
from vccid.card.piv.indicators import Indicators
from vccid.card.piv.parts import PivParts, WaitFor, report
from vccid.card.piv.pins import PivPin
from vccid.card.piv.references import APPLICATION_PIN, PAIRING_CODE, PUK
from vccid.card.processors import Answer
from vccid.errors import KeyOperationError, StateError, TokenGone
from vccid.iso7816 import status
from vccid.iso7816.apdu import Command


class ReferenceData:
    """What is done to PIN and PUK, and to the PIN's status with that."""

    def __init__(
        self, parts: PivParts, indicators: Indicators, access: Access, wait_for: WaitFor
    ) -> None:
        self._access = access
        self._parts = parts
        self._indicators = indicators
        self._pin_status = indicators.pin
        self._wait_for = wait_for

    def verify(self, command: Command) -> Answer:
        """VERIFY (3.2.1)."""
        if command.p2 == PAIRING_CODE and self._access.pairs:
            return self._verify_pairing_code(command)
        if command.p2 != APPLICATION_PIN:
            return status.REFERENCED_DATA_NOT_FOUND
        if not self._access.virtual_contact:
            return status.SECURITY_STATUS_NOT_SATISFIED
        asked, pin = parse_verify(command), self._parts.pin
        if isinstance(asked, ForgetPin):
            self._pin_status.fall()
            return status.SUCCESS
        if isinstance(asked, QueryPin):
            verified = self._pin_status.is_verified
            return self._standing() if verified else status.tries_left(pin.tries_left)
        if self._is_kept():
            return status.AUTHENTICATION_BLOCKED
        return self._verify(asked)

    def _is_kept(self) -> bool:
        """Whether without contact nobody may try the PIN any more (3.2.1)."""
        return self._access.contactless and self._parts.pin.tries_left <= TRIES_KEPT

    def _verify_pairing_code(self, command: Command) -> bytes:
        """The pairing code, which has no counter."""
        held = self._parts.memory.contents.secure_messaging
        assert held is not None, "it can be verified"
        if not self._access.secure:
            return status.SECURITY_STATUS_NOT_SATISFIED
        asked = parse_verify(command)
        if isinstance(asked, QueryPin):
            return status.SUCCESS if self._indicators.paired else status.VERIFICATION_FAILED
        self._indicators.paired = isinstance(asked, VerifyPin) and hmac.compare_digest(
            asked.pin, held.pairing_code.encode()
        )
        if isinstance(asked, ForgetPin) or self._indicators.paired:
            return status.SUCCESS
        return status.VERIFICATION_FAILED

    async def _standing(self) -> bytes:
        """Whether what was proved still holds: a token may have been pulled, and be back locked."""
        pin = self._parts.pin
        if await self._wait_for(pin.still_proved()):
            return status.SUCCESS
        self._pin_status.fall()
        return status.tries_left(pin.tries_left)

    async def _verify(self, asked: VerifyPin) -> bytes:
        return await self._compare_pin(self._parts.pin.verify(asked.pin))

    def change(self, command: Command) -> Answer:
        """CHANGE REFERENCE DATA (3.2.2)."""
        if self._access.contactless and command.p2 == PUK:
            return status.FUNCTION_NOT_SUPPORTED
        if command.p2 == APPLICATION_PIN and not self._access.virtual_contact:
            return status.SECURITY_STATUS_NOT_SATISFIED
        asked = ChangeReference.parse(command)
        return status.AUTHENTICATION_BLOCKED if self._is_kept() else self._change_reference(asked)

    async def _change_reference(self, asked: ChangeReference) -> bytes:
        held = self._parts.puk if asked.reference == PUK else self._parts.pin
        if not held.tries_left:  # before the new one's form is looked at
            return status.AUTHENTICATION_BLOCKED
        if asked.reference == PUK:
            return await self._answer(self._parts.puk.change(asked.old, asked.new))
        return await self._compare_pin(self._parts.pin.change(asked.old, asked.new))

    def reset_retry_counter(self, command: Command) -> Answer:
        """RESET RETRY COUNTER (3.2.3)."""
        if self._access.contactless and command.p2 == APPLICATION_PIN:
            return status.FUNCTION_NOT_SUPPORTED
        return self._reset_retry_counter(ResetRetryCounter.parse(command))

    async def _reset_retry_counter(self, asked: ResetRetryCounter) -> bytes:
        pin = self._parts.pin
        if not isinstance(pin, PivPin):
            return status.FUNCTION_NOT_SUPPORTED  # a token's PIN is not ours to set
        answer = await self._answer(self._parts.puk.verify(asked.puk))
        if answer[0] == 0x63:
            self._pin_status.fall()
        if answer != status.SUCCESS:
            return answer
        return await self._answer(pin.renew(asked.new_pin))

    async def _compare_pin(self, attempt: Coroutine[Any, Any, Outcome]) -> bytes:
        """What a comparison with the PIN comes to; one that took place says how it stands."""
        answer = await self._answer(attempt)
        if answer == status.SUCCESS:
            self._pin_status.right()
        elif answer not in (status.AUTHENTICATION_BLOCKED, status.INCORRECT_DATA):
            self._pin_status.fall()
        return answer

    async def _answer(self, attempt: Coroutine[Any, Any, Outcome]) -> bytes:
        """The status word for what became of a PIN or PUK."""
        try:
            verdict, tries_left = await self._wait_for(attempt)
        except ValueError:
            return status.INCORRECT_DATA
        except StateError as error:
            return report(error, status.MEMORY_FAILURE, self._parts.serial)
        except TokenGone as error:
            return report(error, status.EXECUTION_ERROR, self._parts.serial)
        except KeyOperationError as error:
            return report(error, status.CONDITIONS_NOT_SATISFIED, self._parts.serial)
        if verdict is Verdict.BLOCKED:
            return status.AUTHENTICATION_BLOCKED
        return status.SUCCESS if verdict is Verdict.RIGHT else status.tries_left(tries_left)
