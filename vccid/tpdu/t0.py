# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session as a T=0 card gives it: short answers, the rest by GET RESPONSE.

A T=0 command has no Le behind its data (ISO/IEC 7816-3:2006, 12.2.5), so what such a
command answers waits for GET RESPONSE; and at most 256 bytes go out at once.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from vccid.card.card import Session
from vccid.errors import RemoteProtocolError
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, Command

#: P3 is one byte, 00 of which means so many (ISO/IEC 7816-3:2006, 10.3.2).
_MAX_DATA: Final = 256


class T0Session(Session):
    """Any session, for a host that speaks T=0.

    Attributes:
        under: the session itself, which `close` ends.
    """

    def __init__(self, session: Session, *, left_out: int = 0) -> None:
        """`left_out`: no answer has so many bytes of data; 0 where every length will do."""
        self.under = session
        self._left_out = left_out
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
        count = len(answer) - 2
        if count <= room and self._allowed(count) == count:
            return answer
        return self._hand_out(answer[:-2], answer[-2:], room)

    def _hand_out(self, data: bytes, status_word: bytes, room: int) -> bytes:
        """As much of `data` as fits into `room` bytes; the rest is kept and announced."""
        count = self._allowed(min(len(data), room))
        self._waiting, self._status = data[count:], status_word
        if not self._waiting:
            return data + status_word
        announced = self._allowed(min(len(self._waiting), _MAX_DATA))
        return data[:count] + status.bytes_available(announced)

    def _allowed(self, count: int) -> int:
        return count - 1 if count and count == self._left_out else count


class T0Tpdu(Session):
    """The same, for a reader that hands on T=0's TPDUs (12.2): P3 counts exactly.

    Once the card has acknowledged a command, as many bytes cross the line as P3 says. So where
    there are fewer, the answer is 6Cxx, and the data come when the host asks with P3 = xx; the
    command is not executed again.
    """

    def __init__(self, session: Session) -> None:
        self._session = T0Session(session)
        self._asked = b""
        self._held = b""

    @property
    def atr(self) -> bytes:
        return self._session.atr

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        held, self._held = self._held, b""
        if held and command == self._asked:
            return held
        if len(command) > 5:
            command = command[: 5 + (command[4] or len(command))]  # no Le behind the data
        answer = self._session.execute(command)
        if isinstance(answer, bytes):
            return self._count(command, answer)
        return self._wait(command, answer)

    def close(self) -> None:
        self._held = b""
        self._session.close()

    async def _wait(self, command: bytes, answer: Awaitable[bytes]) -> bytes:
        return self._count(command, await answer)

    def _count(self, command: bytes, answer: bytes) -> bytes:
        count = len(answer) - 2
        if len(command) != 5 or not 0 < count < (command[4] or _MAX_DATA):
            return answer
        self._asked, self._held = command[:4] + bytes((count,)), answer
        return status.wrong_le(count)


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
