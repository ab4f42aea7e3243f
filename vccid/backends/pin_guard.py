# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guard over a real card's PIN: no host spends its last tries.

Source: ISO/IEC 7816-4:2020, 5.4.1 (class byte), 5.3.3 (command chaining), 10 (secure messaging),
11.5.6 to 11.5.10 (what can cost a try).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from vccid.errors import RemoteProtocolError
from vccid.iso7816 import ber, status
from vccid.iso7816.apdu import INS_CHANGE_REFERENCE_DATA, INS_VERIFY

_log = logging.getLogger(__name__)

_INS_DISABLE_VERIFICATION: Final = 0x26
_INS_ENABLE_VERIFICATION: Final = 0x28
_INS_RESET_RETRY_COUNTER: Final = 0x2C
#: What can cost a try; bit 1 of INS only says that the data are BER-TLV (5.4.2).
_PIN_COMMANDS: Final = (
    INS_VERIFY,
    INS_CHANGE_REFERENCE_DATA,
    _INS_DISABLE_VERIFICATION,
    _INS_ENABLE_VERIFICATION,
    _INS_RESET_RETRY_COUNTER,
)
_BER_TLV: Final = 0x01
#: What a secure channel begins with: INITIALIZE UPDATE (GlobalPlatform 2.3.1, D.4.1), EXTERNAL
#: AUTHENTICATE, GET CHALLENGE before it, GENERAL AUTHENTICATE (11.5).
_ESTABLISHING: Final = (0x50, 0x82, 0x84, 0x86)
#: The references of a PIV card's PIN and of a CAC's, asked for while a plain command does no harm.
_REFERENCES: Final = (0x80, 0x00)
#: It carries another command past the guard (11.8.2).
_INS_ENVELOPE: Final = 0xC2

_MORE_FOLLOW: Final = 0x10
#: Secure messaging, in the further interindustry classes and in all others.
_FURTHER, _FURTHER_SECURE, _SECURE = 0x40, 0x20, 0x0C
#: The status word within a protected response (10.3.4).
_PROTECTED_STATUS: Final = 0x99

Transmit = Callable[[bytes], bytes]


class PinGuard:
    """What is known of one card's tries; it outlasts the sessions with the card."""

    def __init__(self, name: str, tries_kept: int) -> None:
        """`name` is the reader's; 0 for `tries_kept` passes everything on."""
        self._name = name
        self._kept = tries_kept
        #: Tries left by INS class and P2, as the card last said with 63Cx.
        self._tries: dict[int, int] = {}
        #: What the card was asked of since it was powered on.
        self._asked: set[int] = set()
        #: Whether a plain command could end a secure channel.
        self._channel = False
        #: INS, P1 and P2 of a PIN command whose first parts were passed on.
        self._chain = b""

    def power_on(self) -> None:
        """The card was reset: nothing is under way."""
        self._asked.clear()
        self._channel = False
        self._chain = b""

    def exchange(self, command: bytes, transmit: Transmit) -> bytes:
        """One command and its answer, the card's or the guard's."""
        chain, self._chain = self._chain, b""
        ins = command[1] & ~_BER_TLV if self._kept and len(command) > 3 else None
        if len(command) > 5:
            if ins in _PIN_COMMANDS:
                return self._guarded(command, transmit, command[1:4] == chain)
            if ins == _INS_ENVELOPE:
                return status.INSTRUCTION_NOT_SUPPORTED
        if ins in _ESTABLISHING and not self._channel:
            for reference in _REFERENCES:
                self._ask(command[0], reference, transmit)
            self._channel = True
        answer = transmit(command)
        if ins is not None and _is_secure(command[0]):
            self._channel |= answer[-2] in (0x90, 0x61)
        elif ins == INS_VERIFY:
            self._note(command[3], answer)  # A host that asks tells us as well.
            self._asked.add(command[3])
        return answer

    def _ask(self, cla: int, reference: int, transmit: Transmit) -> None:
        """VERIFY without data asks, and costs nothing (11.5.6)."""
        ask = bytes((_plain_class(cla), INS_VERIFY, 0, reference))
        self._note(reference, transmit(ask))
        self._asked.add(reference)

    def _guarded(self, command: bytes, transmit: Transmit, continues: bool) -> bytes:
        """A command that can cost a try.

        The guard's own question would end a secure channel, or a chain in its middle. Within a
        channel it goes by what the card said before, and by every answer that costs a try.
        """
        ins, reference = command[1] & ~_BER_TLV, command[3]
        within = self._channel and _is_secure(command[0])
        # RESET RETRY COUNTER spends the PUK's tries, which no command asks for.
        counter = ins << 8 if ins == _INS_RESET_RETRY_COUNTER else reference
        if counter == reference and not continues and not within:
            self._ask(command[0], reference, transmit)
        if not continues and not self._may_pass(counter, within):
            return status.AUTHENTICATION_BLOCKED
        answer = transmit(command)
        if command[0] & _MORE_FOLLOW:  # Its answer is about the part, not about the PIN.
            self._chain = command[1:4] if answer == status.SUCCESS else b""
        else:
            self._note(counter, answer)
        return answer

    def _may_pass(self, counter: int, within: bool) -> bool:
        left = self._tries.get(counter)
        if left is not None and left < self._kept:
            _log.warning("%s: a PIN was held back, %d tries are left", self._name, left)
            return False
        if within and left is None and counter not in self._asked and counter < 0x100:
            _log.warning(
                "%s: a PIN was held back, for how many tries are left cannot be asked within a"
                " secure channel; ask before it: VERIFY %02X without data",
                self._name,
                counter,
            )
            return False
        return True

    def _note(self, counter: int, answer: bytes) -> None:
        """63Cx says what is left; success and "verified already" mean the counter is full."""
        answer = _unprotected(answer)
        if answer[-2] == 0x63 and answer[-1] & 0xF0 == 0xC0:
            self._tries[counter] = answer[-1] & 0x0F
        elif answer == status.AUTHENTICATION_BLOCKED:
            self._tries[counter] = 0
        elif answer == status.SUCCESS:
            self._tries.pop(counter, None)


def _plain_class(cla: int) -> int:
    """The class byte of a plain command on the same logical channel (5.4.1)."""
    return cla & (0x4F if cla & _FURTHER else 0x03)


def _is_secure(cla: int) -> bool:
    return bool(cla & (_FURTHER_SECURE if cla & 0xC0 == _FURTHER else _SECURE))


def _unprotected(answer: bytes) -> bytes:
    """A protected response's own status word, which stands in plain in it."""
    if len(answer) > 2:
        try:
            within = dict(ber.parse(answer[:-2])).get(_PROTECTED_STATUS, b"")
        except RemoteProtocolError:
            return answer
        return within if len(within) == 2 else answer
    return answer
