# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session as a T=0 card gives it: short answers, the rest by GET RESPONSE.

QEMU's usb-ccid speaks T=0 TPDUs only and drops an answer of more than 374 bytes.
A T=0 command has no Le behind its data (ISO/IEC 7816-3:2006, 12.2.5), so what such a
command answers waits for GET RESPONSE; and at most 256 bytes go out at once.

One length is left out. QEMU's releases up to 10.0 let go of an answer only when what they
last handed over is not 64 bytes: right for UHCI, which reads packet by packet and needs an
empty one to end with, wrong for xHCI, which takes all 64 bytes in one transfer. There the
guest's next read gets nothing, every later answer comes one read late, and libccid gives
the reader up. A CCID block of 64 bytes is a header of 10, 52 bytes of data and the status
word: so a card that never answers 52 bytes never meets the fault.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from vccid.card.card import Session
from vccid.errors import RemoteProtocolError
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, Command

_MAX_DATA: Final = 256
#: 64 − 10 (CCID header) − 2 (status word).
_LEFT_OUT: Final = 52


class T0Session(Session):
    """Any session, for a host that speaks T=0.

    Attributes:
        under: the session itself, which `close` ends.
    """

    def __init__(self, session: Session) -> None:
        self.under = session
        self._waiting = b""
        self._status = b""

    @property
    def atr(self) -> bytes:
        return self.under.atr

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        if self._waiting and len(command) == 5 and command[1] == INS_GET_RESPONSE:
            return self._hand_out(self._waiting, self._status, command[4] or _MAX_DATA)
        self._waiting = b""
        room = _room(command)
        answer = self.under.execute(command)
        if isinstance(answer, bytes):
            return self._fit(answer, room)
        return self._wait(answer, room)

    def close(self) -> None:
        self._waiting = b""
        self.under.close()

    async def _wait(self, answer: Awaitable[bytes], room: int) -> bytes:
        return self._fit(await answer, room)

    def _fit(self, answer: bytes, room: int) -> bytes:
        if len(answer) - 2 <= room and len(answer) - 2 != _LEFT_OUT:
            return answer
        return self._hand_out(answer[:-2], answer[-2:], room)

    def _hand_out(self, data: bytes, status_word: bytes, room: int) -> bytes:
        """As much of `data` as fits into `room` bytes; the rest is kept and announced."""
        count = _allowed(min(len(data), room))
        self._waiting, self._status = data[count:], status_word
        if not self._waiting:
            return data + status_word
        announced = _allowed(min(len(self._waiting), _MAX_DATA))
        return data[:count] + status.BYTES_AVAILABLE[announced]


def _allowed(count: int) -> int:
    return count - 1 if count == _LEFT_OUT else count


def _room(command: bytes) -> int:
    """How many bytes of data may answer `command` at once."""
    try:
        parsed = Command.parse(command)
    except RemoteProtocolError:
        return _MAX_DATA  # the card says what is wrong, in a status word
    # Without data and Le it is case 1, whose T=0 form has P3 = 00 and so cannot be told
    # from case 2 with 256 bytes.
    if not parsed.data:
        return min(parsed.le, _MAX_DATA) or _MAX_DATA
    return min(parsed.le, _MAX_DATA)
