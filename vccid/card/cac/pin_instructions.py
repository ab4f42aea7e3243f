# SPDX-License-Identifier: LGPL-2.1-or-later
"""The instructions about the PIN, and GET CHALLENGE: the same in every applet and in none."""

from __future__ import annotations

import logging
import os
from collections.abc import Coroutine
from typing import Any, Final

from vccid.card.cac.applet import AppletSession
from vccid.card.pin import Outcome, Verdict
from vccid.card.processors import Answer
from vccid.errors import KeyOperationError, StateError, TokenGone
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_CHANGE_REFERENCE_DATA, Command
from vccid.trace.gsc_is import GSC_IS
from vccid.trace.lines import outcome_text

#: A PIN on the wire is right-padded with FF; a token's password may be longer than 8 bytes.
MAX_PIN_FIELD: Final = 255

#: What CHANGE REFERENCE DATA carries: old and new PIN, each padded to 8 bytes.
_CHANGE_HALF: Final = 8

_log = logging.getLogger(__name__)


def verify(session: AppletSession, command: Command) -> Answer:
    """VERIFY (ISO/IEC 7816-4:2020, 11.5.6): without data, how things stand."""
    if command.p1 or command.p2:
        return status.PARAMETERS_WRONG
    if not command.data:
        # libcacard does not count, and answers 6A88, or 63C3 whatever is left.
        return _standing(session) if session.pin_status.is_verified else _unproved(session)
    if len(command.data) > MAX_PIN_FIELD:
        return status.WRONG_LENGTH
    return _decide(session, command.ins, session.pin.verify(_unpadded(command.data)))


def change_reference_data(session: AppletSession, command: Command) -> Answer:
    """CHANGE REFERENCE DATA (11.5.7). P1 00 as OpenSC sends it, 01 as Apple's CACNG does."""
    if command.p1 not in (0x00, 0x01) or command.p2:
        return status.INCORRECT_P1_P2
    if len(command.data) != 2 * _CHANGE_HALF:
        return status.WRONG_LENGTH
    old, new = command.data[:_CHANGE_HALF], command.data[_CHANGE_HALF:]
    return _change(session, _unpadded(old), _unpadded(new))


def get_challenge(session: AppletSession, command: Command) -> bytes:
    """GET CHALLENGE (11.5.3): 1 to 256 random bytes.

    libcacard has none, and `pkcs11-tool --test` counts that as an error: OpenSC's random numbers
    come from here.
    """
    if command.data or not 1 <= command.le <= 256:
        return status.WRONG_LENGTH
    return os.urandom(command.le) + status.SUCCESS


async def _standing(session: AppletSession) -> bytes:
    """Whether what was proved still holds: the token may have been pulled, and be back locked."""
    if await session.lifetime.wait_for(session.pin.still_proved()):
        return status.SUCCESS
    session.pin_status.fall()
    return _unproved(session)


def _unproved(session: AppletSession) -> bytes:
    return status.tries_left(session.pin.tries_left)


async def _change(session: AppletSession, old: bytes, new: bytes) -> bytes:
    try:
        return await _decide(session, INS_CHANGE_REFERENCE_DATA, session.pin.change(old, new))
    except ValueError:
        return status.INCORRECT_DATA


async def _decide(session: AppletSession, ins: int, attempt: Coroutine[Any, Any, Outcome]) -> bytes:
    """Wait for a PIN's verdict; whatever it is, what was verified before is over."""
    session.pin_status.fall()
    try:
        verdict, tries_left = await session.lifetime.wait_for(attempt)
    except StateError as error:
        return _failed(session, ins, error, status.MEMORY_FAILURE)
    except TokenGone as error:
        return _failed(session, ins, error, status.EXECUTION_ERROR)
    except KeyOperationError as error:
        return _failed(session, ins, error, status.CONDITIONS_NOT_SATISFIED)
    # libcacard says 6985, which tells a program nothing: by 63Cx OpenSC knows a wrong PIN, by 6983
    # a blocked one.
    if verdict is Verdict.BLOCKED:
        return status.AUTHENTICATION_BLOCKED
    if verdict is Verdict.WRONG:
        return status.tries_left(tries_left)
    session.pin_status.right()
    return status.SUCCESS


def _unpadded(field: bytes) -> bytes:
    return field.rstrip(b"\xff")


def _failed(
    session: AppletSession,
    ins: int,
    error: StateError | TokenGone | KeyOperationError,
    answer: bytes,
) -> bytes:
    told = outcome_text(ins, answer, GSC_IS)
    _log.error("%s: %s; %s", told, error.message, error.hint, extra={"card": session.serial})
    return answer
