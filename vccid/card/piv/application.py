# SPDX-License-Identifier: LGPL-2.1-or-later
"""The PIV card application as one host sees it (SP 800-73-5 part 2, section 3).

Whole commands come in, whole answers go out: chaining either way is done before and after.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from vccid.card.pin import Outcome, Pin, Verdict
from vccid.card.piv import authentication
from vccid.card.piv.commands import (
    ChangeReference,
    ForgetPin,
    GeneralAuthenticate,
    GetData,
    QueryPin,
    Refused,
    ResetRetryCounter,
    VerifyPin,
    parse_verify,
)
from vccid.card.piv.contents import CardMemory
from vccid.card.piv.data_model import (
    AID,
    APPLICATION_PROPERTIES,
    BARE,
    DATA,
    PIN_TO_READ,
    SHORTEST_AID,
)
from vccid.card.piv.indicators import Indicators
from vccid.card.piv.keys import CardKey
from vccid.card.piv.objects import Objects
from vccid.card.piv.personalisation import VERSION, Personalisation
from vccid.card.piv.pins import PivPin, Puk
from vccid.card.piv.references import CARD_MANAGEMENT, PUK
from vccid.errors import KeyOperationError, KeySourceError, StateError, TokenGone
from vccid.iso7816 import ber, status
from vccid.iso7816.apdu import (
    INS_CHANGE_REFERENCE_DATA,
    INS_GENERAL_AUTHENTICATE,
    INS_GENERATE_KEY_PAIR,
    INS_GET_DATA_BY_TAG_LIST,
    INS_PUT_DATA_BY_TAG_LIST,
    INS_RESET_RETRY_COUNTER,
    INS_SELECT,
    INS_VERIFY,
    Command,
)

T = TypeVar("T")

#: A response APDU, at once or later.
Answer = bytes | Awaitable[bytes]

_SELECT_BY_NAME, _SELECT_BY_PATH = 0x04, 0x09

# Yubico's instructions.
INS_GET_METADATA: Final = 0xF7
INS_GET_SERIAL: Final = 0xF8
INS_ATTEST: Final = 0xF9
INS_SET_RETRIES: Final = 0xFA
INS_RESET: Final = 0xFB
INS_GET_VERSION: Final = 0xFD
INS_IMPORT_KEY: Final = 0xFE
INS_SET_MANAGEMENT_KEY: Final = 0xFF

_log = logging.getLogger(__name__)


class WaitFor(Protocol):
    """Waits for blocking work, but no longer than a session lasts."""

    def __call__(self, work: Awaitable[T]) -> Coroutine[Any, Any, T]:
        """Raises CardRemoved where the session ended meanwhile."""


@dataclass(frozen=True, slots=True)
class PivParts:
    """What all sessions with one card share.

    Attributes:
        memory: objects and keys.
        pin: the application PIN.
        puk: the PUK.
        personalisation: card management.
        objects: reads objects.
        serial: the card's serial number, for the log.
    """

    memory: CardMemory
    pin: Pin
    puk: Puk
    personalisation: Personalisation
    objects: Objects
    serial: str


class PivApplication:
    """One session's application.

    Attributes:
        indicators: what the host has proved.
    """

    def __init__(self, parts: PivParts, wait_for: WaitFor) -> None:
        self.indicators = Indicators()
        self._parts = parts
        self._resets = parts.memory.resets
        self._wait_for = wait_for
        make = parts.personalisation
        self._handlers: Final[dict[int, Callable[[Command], Answer]]] = {
            INS_SELECT: self.select,
            INS_GET_DATA_BY_TAG_LIST: self.get_data,
            INS_VERIFY: self.verify,
            INS_CHANGE_REFERENCE_DATA: self.change_reference_data,
            INS_RESET_RETRY_COUNTER: self.reset_retry_counter,
            INS_GENERAL_AUTHENTICATE: self.general_authenticate,
            INS_PUT_DATA_BY_TAG_LIST: self._managed(make.put_data),
            INS_GENERATE_KEY_PAIR: self._managed(make.generate),
            INS_IMPORT_KEY: self._managed(make.import_key),
            INS_SET_MANAGEMENT_KEY: self._managed(make.set_management_key),
            INS_SET_RETRIES: self.set_retries,
            INS_RESET: self.reset,
            INS_GET_METADATA: make.metadata,
            INS_ATTEST: make.attest,
            INS_GET_SERIAL: make.serial,
            INS_GET_VERSION: lambda command: VERSION + status.SUCCESS,
        }

    def process(self, command: Command) -> Answer:
        """Answer a whole command."""
        handler = self._handlers.get(command.ins)
        if self._resets != self._parts.memory.resets:
            self._resets = self._parts.memory.resets
            self.indicators.clear()
        self._notice_abandoned(command)
        if handler is None:
            return status.INSTRUCTION_NOT_SUPPORTED
        try:
            return handler(command)
        except Refused as refused:
            return refused.answer

    def deselect(self) -> None:
        """Another application of the card was selected (2.4.2)."""
        self.indicators.clear()

    # -- data access (3.1) -----------------------------------------------------------------

    def select(self, command: Command) -> bytes:
        """SELECT (3.1.1): an unknown name leaves everything as it is."""
        if command.p1 <= _SELECT_BY_PATH and command.p1 != _SELECT_BY_NAME:
            return status.NOT_FOUND  # there are no files
        if command.p1 != _SELECT_BY_NAME or command.p2 & 0xF3:
            return status.INCORRECT_P1_P2
        if not is_piv(command.data):
            return status.NOT_FOUND
        return (b"" if command.p2 == 0x0C else APPLICATION_PROPERTIES) + status.SUCCESS

    def get_data(self, command: Command) -> bytes:
        """GET DATA (3.1.2): the read rule, then whether the object is there."""
        tag = GetData.parse(command).tag
        if tag in PIN_TO_READ and not self.indicators.pin:
            return status.SECURITY_STATUS_NOT_SATISFIED
        content = self._parts.objects.read(self._parts.memory.contents, tag)
        if content is None:
            return status.NOT_FOUND
        return ber.encode(tag if tag in BARE else DATA, content) + status.SUCCESS

    # -- authentication (3.2) ---------------------------------------------------------------

    def verify(self, command: Command) -> Answer:
        """VERIFY (3.2.1)."""
        asked, pin = parse_verify(command), self._parts.pin
        if isinstance(asked, ForgetPin):
            self.indicators.set_pin(False)
            return status.SUCCESS
        if isinstance(asked, QueryPin):
            return self._standing() if self.indicators.pin else status.tries_left(pin.tries_left)
        return self._verify(asked)

    async def _standing(self) -> bytes:
        """Whether what was proved still holds: a token may have been pulled, and be back locked."""
        pin = self._parts.pin
        if await self._wait_for(pin.still_proved()):
            return status.SUCCESS
        self.indicators.set_pin(False)
        return status.tries_left(pin.tries_left)

    async def _verify(self, asked: VerifyPin) -> bytes:
        return await self._compare_pin(self._parts.pin.verify(asked.pin))

    def change_reference_data(self, command: Command) -> Answer:
        """CHANGE REFERENCE DATA (3.2.2)."""
        return self._change_reference(ChangeReference.parse(command))

    async def _change_reference(self, asked: ChangeReference) -> bytes:
        held = self._parts.puk if asked.reference == PUK else self._parts.pin
        if not held.tries_left:  # before the new one's form is looked at
            return status.AUTHENTICATION_BLOCKED
        if asked.reference == PUK:
            return await self._answer(self._parts.puk.change(asked.old, asked.new))
        return await self._compare_pin(self._parts.pin.change(asked.old, asked.new))

    def reset_retry_counter(self, command: Command) -> Answer:
        """RESET RETRY COUNTER (3.2.3)."""
        return self._reset_retry_counter(ResetRetryCounter.parse(command))

    async def _reset_retry_counter(self, asked: ResetRetryCounter) -> bytes:
        pin = self._parts.pin
        if not isinstance(pin, PivPin):
            return status.FUNCTION_NOT_SUPPORTED  # a token's PIN is not ours to set
        answer = await self._answer(self._parts.puk.verify(asked.puk))
        if answer[0] == 0x63:
            self.indicators.set_pin(False)
        if answer != status.SUCCESS:
            return answer
        return await self._answer(pin.renew(asked.new_pin))

    async def _compare_pin(self, attempt: Coroutine[Any, Any, Outcome]) -> bytes:
        """What a comparison with the PIN comes to; one that took place says how it stands."""
        answer = await self._answer(attempt)
        if answer == status.SUCCESS:
            self.indicators.set_pin(True)
        elif answer not in (status.AUTHENTICATION_BLOCKED, status.INCORRECT_DATA):
            self.indicators.set_pin(False)
        return answer

    async def _answer(self, attempt: Coroutine[Any, Any, Outcome]) -> bytes:
        """The status word for what became of a PIN or PUK."""
        try:
            verdict, tries_left = await self._wait_for(attempt)
        except ValueError:
            return status.INCORRECT_DATA
        except StateError as error:
            return self._report(error, status.MEMORY_FAILURE)
        except TokenGone as error:
            return self._report(error, status.EXECUTION_ERROR)
        except KeyOperationError as error:
            return self._report(error, status.CONDITIONS_NOT_SATISFIED)
        if verdict is Verdict.BLOCKED:
            return status.AUTHENTICATION_BLOCKED
        return status.SUCCESS if verdict is Verdict.RIGHT else status.tries_left(tries_left)

    def general_authenticate(self, command: Command) -> Answer:
        """GENERAL AUTHENTICATE (3.2.4)."""
        asked = GeneralAuthenticate.parse(command)
        memory = self._parts.memory
        if asked.reference == CARD_MANAGEMENT:
            return authentication.prove_management(
                memory.contents.management, asked, self.indicators
            )
        key = memory.key(asked.reference)
        if key is None or key.algorithm is not asked.algorithm:
            return status.INCORRECT_P1_P2
        if not self.indicators.may_use(key):
            return status.SECURITY_STATUS_NOT_SATISFIED
        operation = authentication.operation(key, asked)
        if operation is None:
            return status.INCORRECT_DATA
        self.indicators.fresh = False
        return self._operate(operation, key)

    async def _operate(self, operation: Callable[[], bytes], key: CardKey) -> bytes:
        try:
            response = await self._wait_for(self._parts.memory.offload(operation))
        except (KeyOperationError, KeySourceError) as error:
            return authentication.failure(error, key, self._parts.serial)
        return authentication.result(response)

    def _notice_abandoned(self, command: Command) -> None:
        """2.4.2: an authentication that is not gone on with falls, as one that failed."""
        indicators = self.indicators
        if not (indicators.challenge or indicators.witness):
            return
        if command.ins != INS_GENERAL_AUTHENTICATE or command.p2 != CARD_MANAGEMENT:
            indicators.forget_proof()
            indicators.management = False

    # -- card management (3.3) ------------------------------------------------------------------

    def _managed(
        self, handler: Callable[[Command], Awaitable[bytes]]
    ) -> Callable[[Command], Answer]:
        """A command for who has proved the management key."""

        def handle(command: Command) -> Answer:
            if not self.indicators.management:
                return status.SECURITY_STATUS_NOT_SATISFIED
            return self._written(handler(command))

        return handle

    def set_retries(self, command: Command) -> Answer:
        """Yubico's SET RETRIES, which wants the PIN as well."""
        if not (self.indicators.management and self.indicators.pin):
            return status.SECURITY_STATUS_NOT_SATISFIED
        return self._written(self._parts.personalisation.set_retries(command))

    def reset(self, command: Command) -> Answer:
        """Yubico's RESET."""
        return self._reset(command)

    async def _reset(self, command: Command) -> bytes:
        answer = await self._written(self._parts.personalisation.reset(command))
        if answer == status.SUCCESS:
            self._parts.memory.resets += 1
        return answer

    async def _written(self, work: Awaitable[bytes]) -> bytes:
        try:
            return await self._wait_for(work)
        except Refused as refused:
            return refused.answer
        except StateError as error:
            return self._report(error, status.MEMORY_FAILURE)

    def _report(self, error: StateError | TokenGone | KeyOperationError, answer: bytes) -> bytes:
        _log.error("%s; %s", error.message, error.hint, extra={"card": self._parts.serial})
        return answer


def is_piv(name: bytes) -> bool:
    """Whether a DF name selects the application: its AID, or the beginning of it."""
    return len(name) >= SHORTEST_AID and AID.startswith(name)
