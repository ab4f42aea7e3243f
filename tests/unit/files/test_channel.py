# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes through between kernel and libfuse, and what does not. Both are socket pairs here."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest_asyncio

from vccid.files.channel import FIRST_STREAM, Channel


def request(opcode: int, unique: int, body: bytes = b"") -> bytes:
    header = struct.pack("=IIQQIIIHH", 40 + len(body), opcode, unique, 1, 0, 0, 0, 0, 0)
    return header + body


def lookup(unique: int, name: bytes = b"vccid0") -> bytes:
    return request(1, unique, name + b"\0")


def read(unique: int, fh: int) -> bytes:
    return request(15, unique, struct.pack("=QQIIQI4x", fh, 0, 4096, 0, 0, 0))


def interrupt(victim: int) -> bytes:
    return request(36, victim | 1, struct.pack("=Q", victim))


def answer(unique: int, body: bytes = b"", error: int = 0) -> bytes:
    return struct.pack("=IiQ", 16 + len(body), error, unique) + body


class Ends:
    """The kernel's end, libfuse's end, and the channel between."""

    def __init__(self) -> None:
        self.kernel, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(device.detach())
        self.libfuse = socket.socket(fileno=self.channel.libfuse)
        for end in (self.kernel, self.libfuse):
            end.setblocking(False)

    async def at_libfuse(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.libfuse, 1 << 20)

    async def at_kernel(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.kernel, 1 << 20)


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    yield ends
    ends.channel.close()
    ends.kernel.close()
    ends.libfuse.close()


async def test_messages_go_through_as_they_are(ends: Ends) -> None:
    for message in (lookup(2), read(4, 7), request(25, 6, bytes(24))):
        ends.kernel.send(message)
        assert await ends.at_libfuse() == message
    ends.libfuse.send(answer(2, error=-2))
    assert await ends.at_kernel() == answer(2, error=-2)


async def test_many_at_once_keep_their_order(ends: Ends) -> None:
    sent = [lookup(2 * number, b"x" * 200) for number in range(1, 3000)]

    async def send() -> None:
        for message in sent:
            await asyncio.get_running_loop().sock_sendall(ends.kernel, message)

    sending = asyncio.create_task(send())
    await asyncio.sleep(0.1)  # until nothing more fits
    assert [await ends.at_libfuse() for _ in sent] == sent
    await sending


async def test_an_interrupt_reaches_the_read_that_waits(ends: Ends) -> None:
    interrupted: list[int] = []
    for unique in (2, 4):
        ends.kernel.send(read(unique, FIRST_STREAM))
        await ends.at_libfuse()
    for unique in (2, 4):
        assert ends.channel.next_read(FIRST_STREAM) == unique
        ends.channel.wait(unique, lambda unique=unique: interrupted.append(unique))
    ends.kernel.send(interrupt(4))
    ends.kernel.send(lookup(6))
    assert await ends.at_libfuse() == lookup(6)  # and no interrupt before it
    assert interrupted == [4]
    ends.channel.wait_over(4)
    ends.kernel.send(interrupt(4))
    ends.kernel.send(interrupt(700))
    ends.kernel.send(lookup(8))
    await ends.at_libfuse()
    assert interrupted == [4]


async def test_an_interrupt_that_comes_before_the_read_is_brought(ends: Ends) -> None:
    interrupted: list[int] = []
    ends.kernel.send(read(2, FIRST_STREAM))
    ends.kernel.send(interrupt(2))
    ends.kernel.send(lookup(4))
    assert await ends.at_libfuse() == read(2, FIRST_STREAM)
    assert await ends.at_libfuse() == lookup(4)
    ends.channel.wait(ends.channel.next_read(FIRST_STREAM), lambda: interrupted.append(2))
    assert interrupted == [2]


async def test_polls_are_answered_here(ends: Ends) -> None:
    def poll(unique: int, fh: int) -> bytes:
        return request(40, unique, struct.pack("=QQII", fh, 77, 1, 1))

    ends.channel.ready = lambda fh: False
    ends.kernel.send(poll(2, 7))
    assert await ends.at_kernel() == answer(2, struct.pack("=II", 0x41, 0))
    ends.kernel.send(poll(4, FIRST_STREAM))
    assert await ends.at_kernel() == answer(4, struct.pack("=II", 0, 0))
    ends.channel.wake(FIRST_STREAM)
    assert await ends.at_kernel() == answer(0, struct.pack("=Q", 77), error=1)
    ends.channel.wake(FIRST_STREAM)  # told once
    ends.channel.ready = lambda fh: True
    ends.kernel.send(poll(6, FIRST_STREAM))
    assert await ends.at_kernel() == answer(6, struct.pack("=II", 0x41, 0))


async def test_an_open_stream_is_one_for_the_kernel_too(ends: Ends) -> None:
    for unique, flags, expected in ((2, 0b101, 0b110101), (4, 0b10, 0b10)):
        ends.kernel.send(request(14, unique, bytes(8)))
        await ends.at_libfuse()
        ends.libfuse.send(answer(unique, struct.pack("=QII", 9, flags, 0)))
        assert await ends.at_kernel() == answer(unique, struct.pack("=QII", 9, expected, 0))
    # The same bytes as an answer to anything else stay as they are.
    ends.kernel.send(lookup(6))
    await ends.at_libfuse()
    other = answer(6, struct.pack("=QII", 9, 0b101, 0))
    ends.libfuse.send(other)
    assert await ends.at_kernel() == other


async def test_closed_it_is_gone(ends: Ends) -> None:
    assert not ends.channel.gone.done()
    ends.channel.close()
    assert ends.channel.gone.done()
    ends.channel.close()
