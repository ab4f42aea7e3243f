# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's end of a CUSE channel; the real one is in tests/vm."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from dataclasses import dataclass, field

_ANSWER = struct.Struct("=IiQ")


@dataclass
class FakeKernel:
    """Speaks over a socket that keeps messages apart, as /dev/cuse does."""

    socket: socket.socket | None = None
    answers: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    notified: list[int] = field(default_factory=list)
    _unique: int = 0

    def connect(self) -> int:
        """Open /dev/cuse: CUSE_INIT waits there already."""
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.socket, theirs):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.submit(4096, struct.pack("=IIII", 7, 38, 0, 1))
        return theirs.detach()

    def submit(self, opcode: int, body: bytes) -> int:
        """Send a request; returns its unique."""
        assert self.socket is not None
        self._unique += 2
        head = struct.pack(
            "=IIQQIIIHH", 40 + len(body), opcode, self._unique, 0, 1000, 100, os.getpid(), 0, 0
        )
        self.socket.send(head + body)
        return self._unique

    async def answer(self, unique: int) -> tuple[int, bytes]:
        """An answer's error number (0 for none) and body."""
        async with asyncio.timeout(10):
            while unique not in self.answers:
                self.collect()
                await asyncio.sleep(0)
        return self.answers.pop(unique)

    async def call(self, opcode: int, body: bytes) -> tuple[int, bytes]:
        """A request and its answer."""
        return await self.answer(self.submit(opcode, body))

    def collect(self) -> None:
        """Take what the device has written."""
        assert self.socket is not None
        with contextlib.suppress(BlockingIOError):
            while raw := self.socket.recv(1 << 18):
                size, error, unique = _ANSWER.unpack_from(raw)
                assert size == len(raw)
                if unique == 0:
                    assert error == 1
                    self.notified.append(struct.unpack("=Q", raw[16:])[0])
                else:
                    assert unique not in self.answers
                    self.answers[unique] = -error, raw[16:]

    async def open(self, flags: int = os.O_RDWR) -> int:
        """open(2): the file's fh."""
        error, body = await self.call(14, struct.pack("=II", flags, 0))
        if error:
            raise OSError(error, os.strerror(error))
        return int(struct.unpack("=QII", body)[0])

    def begin_read(self, fh: int, size: int = 65_538, flags: int = os.O_RDWR) -> int:
        """read(2), not awaited; returns its unique."""
        return self.submit(15, struct.pack("=QQIIQI4x", fh, 0, size, 0, 0, flags))

    async def read(self, fh: int, size: int = 65_538, flags: int = os.O_RDWR) -> bytes:
        """read(2)."""
        return _checked(await self.answer(self.begin_read(fh, size, flags)))

    def begin_write(self, fh: int, data: bytes, flags: int = os.O_RDWR) -> int:
        """write(2), not awaited; returns its unique."""
        head = struct.pack("=QQIIQI4x", fh, 0, len(data), 0, 0, flags)
        return self.submit(16, head + data)

    async def write(self, fh: int, data: bytes, flags: int = os.O_RDWR) -> int:
        """write(2)."""
        body = _checked(await self.answer(self.begin_write(fh, data, flags)))
        return int(struct.unpack("=I4x", body)[0])

    async def ioctl(
        self, fh: int, command: int, data: bytes = b"", room: int = 0, argument: int = 0
    ) -> tuple[int, bytes]:
        """ioctl(2): what it returns, and the data."""
        head = struct.pack("=QIIQII", fh, 0, command, argument, len(data), room)
        body = _checked(await self.call(39, head + data))
        return struct.unpack_from("=i", body)[0], body[16:]

    async def poll(self, fh: int, kh: int = 0) -> int:
        """poll(2)'s bits now; with `kh`, a change is to be notified."""
        body = _checked(await self.call(40, struct.pack("=QQII", fh, kh, bool(kh), 0x5F)))
        return int(struct.unpack("=I4x", body)[0])

    async def release(self, fh: int) -> None:
        """close(2)."""
        assert _checked(await self.call(18, struct.pack("=QIIQ", fh, 0, 0, 0))) == b""

    def interrupt(self, unique: int) -> None:
        """A signal came for the caller."""
        self.submit(36, struct.pack("=Q", unique))


def _checked(answer: tuple[int, bytes]) -> bytes:
    error, body = answer
    if error:
        assert body == b""
        raise OSError(error, os.strerror(error))
    return body
