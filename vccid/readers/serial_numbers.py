# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serial numbers of readers: the same at every start, and this daemon's at first sight."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Final

#: Digits of either half: whose reader it is, and which.
_HALF: Final = 8


class SerialNumbers:
    """This daemon's numbers.

    No two daemons keep their state in one directory of one host, so the first half is a
    daemon's own; the second is the reader's.
    """

    def __init__(self, state: Path) -> None:
        self._ours = _digits(f"{socket.gethostname()}:{state.resolve()}")
        self._chosen: set[str] = set()

    def of(self, name: str, chosen: str = "") -> str:
        """A reader's serial number: 16 hexadecimal digits, or that which the settings chose."""
        if chosen:
            self._chosen.add(chosen)
        return chosen or self._ours + _digits(name)

    def is_ours(self, serial: str) -> bool:
        """Whether a reader with this number is, or was, this daemon's."""
        if serial in self._chosen:
            return True
        return len(serial) == 2 * _HALF and serial.startswith(self._ours)


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HALF].upper()
