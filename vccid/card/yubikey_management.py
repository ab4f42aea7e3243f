# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Management application of a YubiKey's test double: what the device is, and its reset.

Source: Yubico's client library, which reads it (yubikit.management).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from vccid.card.processors import Answer, Process
from vccid.iso7816 import ber, status
from vccid.iso7816.apdu import INS_SELECT, Command

AID: Final = bytes.fromhex("A0 00 00 05 27 47 11 17")

_READ_CONFIG, _DEVICE_RESET = 0x1D, 0x1F
_SELECT_BY_NAME: Final = 0x04

#: Capabilities: PIV, and nothing else.
_PIV: Final = b"\x00\x10"
#: Form factor: a keychain with USB-A.
_KEYCHAIN: Final = b"\x01"


class Management:
    """The application."""

    def __init__(self, version: bytes, number: int, reset: Callable[[], Awaitable[bytes]]) -> None:
        """Args:
        version: the firmware's, three bytes.
        number: the serial number.
        reset: makes the device as when it was new; its answer is the command's.
        """
        self._version = version
        self._number = number
        self._reset = reset

    def process(self, command: Command) -> Answer:
        """Answer a whole command."""
        if command.ins == INS_SELECT:
            return f"Virtual mgr - FW version {'.'.join(map(str, self._version))}".encode() + (
                status.SUCCESS
            )
        if command.ins == _READ_CONFIG:
            return self._page(command)
        if command.ins == _DEVICE_RESET:
            return self._reset() if not (command.p1 or command.p2) else status.INCORRECT_P1_P2
        return status.INSTRUCTION_NOT_SUPPORTED

    def _page(self, command: Command) -> bytes:
        """The one page there is: its length, then what it tells."""
        if command.p1 or command.p2:
            return status.INCORRECT_P1_P2
        fields = ber.encode_all(
            [
                (0x01, _PIV), (0x02, self._number.to_bytes(4, "big")), (0x03, _PIV),
                (0x04, _KEYCHAIN), (0x05, self._version), (0x06, b"\0\0"), (0x07, b"\x0f"),
                (0x08, b"\0"), (0x0D, _PIV), (0x0E, _PIV), (0x0A, b"\0"), (0x0F, b"\0"),
            ]
        )  # fmt: skip
        return bytes((len(fields),)) + fields + status.SUCCESS


class WithManagement:
    """PIV and the Management application: which is selected; PIV is after a reset.

    A name that neither has changes nothing.
    """

    def __init__(
        self,
        piv: Process,
        deselect: Callable[[], None],
        is_piv: Callable[[bytes], bool],
        management: Management,
    ) -> None:
        """Args:
        piv: the PIV application.
        deselect: called when it is left.
        is_piv: whether a name is its own.
        management: the other.
        """
        self._piv = piv
        self._deselect = deselect
        self._is_piv = is_piv
        self._management = management.process
        self._current = piv

    def process(self, command: Command) -> Answer:
        """Answer a whole command."""
        if command.ins != INS_SELECT or command.p1 != _SELECT_BY_NAME:
            return self._current(command)
        if self._is_piv(command.data):
            self._current = self._piv
        elif command.data == AID:
            self._deselect()
            self._current = self._management
        else:
            return status.NOT_FOUND
        return self._current(command)
