# SPDX-License-Identifier: LGPL-2.1-or-later
"""libccidtwin's end of a serial line for tests: what it sends, and how it reads the answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import reduce
from operator import xor

from tests.unit.ccid.host import message

#: At least one byte of what the reader sent.
Read = Callable[[], Awaitable[bytes]]


def framed(raw: bytes) -> bytes:
    frame = b"\x03\x06" + raw
    return frame + bytes((reduce(xor, frame),))


class TwinClient:
    """One command after the other, the echo first; time requests are waited through.

    Attributes:
        time_requests: how many came.
        unread: what was read and not asked for.
    """

    def __init__(self, write: Callable[[bytes], None], read: Read) -> None:
        self.time_requests = 0
        self.unread = b""
        self._write = write
        self._read = read
        self._seq = 0

    async def take(self, count: int) -> bytes:
        while len(self.unread) < count:
            self.unread += await self._read()
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    async def frame(self) -> bytes:
        """The next frame's message."""
        while (first := await self.take(1))[0] >= 0x80:
            self.time_requests += 1
        head = first + await self.take(6)
        assert head[:2] == b"\x03\x06", head.hex()
        rest = await self.take(5 + int.from_bytes(head[3:7], "little") + 1)
        assert reduce(xor, head + rest) == 0
        return head[2:] + rest[:-1]

    async def command(self, kind: int, data: bytes = b"", specific: str = "000000") -> bytes:
        self._seq = (self._seq + 1) % 256
        raw = message(kind, 0, self._seq, specific, data)
        self._write(framed(raw))
        assert await self.frame() == raw, "no echo"
        answer = await self.frame()
        assert answer[6] == self._seq
        return answer

    async def status(self) -> int:
        return (await self.command(0x65))[7]

    async def power_on(self) -> bytes:
        return (await self.command(0x62, specific="010000"))[10:]

    async def transmit(self, tpdu: bytes) -> bytes:
        return (await self.command(0x6F, tpdu))[10:]
