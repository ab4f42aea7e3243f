# SPDX-License-Identifier: LGPL-2.1-or-later
"""The device node as docs/device-node.md has it, with this process as the kernel."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import select
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.fakes import ATR, FakeCard
from vccid.card.card import Session
from vccid.errors import CardBusy, KeyOperationError
from vccid.frontends.node.device_node import GET_ATR, GET_PRESENCE, RESET, CuseFrontend
from vccid.reader import Reader

from ..cuse_kernel import FakeKernel

SELECT = bytes.fromhex("00A4040000")
WAITING = os.O_RDWR
AT_ONCE = os.O_RDWR | os.O_NONBLOCK
READABLE = select.POLLIN | select.POLLRDNORM
WRITABLE = select.POLLOUT | select.POLLWRNORM
GONE = select.POLLHUP | select.POLLERR
HEADER = Path(__file__).parents[4] / "include" / "vccid.h"


class Node:
    """A reader, its node and the kernel that has it."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.reader = Reader("office")
        self.frontend = CuseFrontend(self.reader, connect=self.kernel.connect)

    async def failing(self, number: int, call: object) -> None:
        with pytest.raises(OSError) as refused:
            await call  # type: ignore[misc]
        assert refused.value.errno == number, refused.value


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.frontend.start()
    yield node
    await node.frontend.stop()
    assert node.kernel.socket is not None
    node.kernel.socket.close()


class SlowCard(FakeCard):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        super().__init__(lambda command: self.answer)


async def test_a_command_and_its_response(node: Node) -> None:
    card = FakeCard()
    node.reader.insert(card)
    fh = await node.kernel.open()
    assert await node.kernel.write(fh, SELECT) == 5
    assert await node.kernel.read(fh) == SELECT + b"\x90\x00"
    assert node.frontend.status == "/dev/vccid/office"
    assert [(host.kind, host.peer, host.commands) for host in node.reader.hosts] == [
        ("cuse", f"pid {os.getpid()}, uid 1000", 1)
    ]
    await node.kernel.release(fh)
    assert card.sessions[0].closed.is_set()
    assert node.reader.hosts == set()


async def test_each_open_is_a_session(node: Node) -> None:
    card = FakeCard()
    node.reader.insert(card)
    one, two = await node.kernel.open(), await node.kernel.open()
    assert len(card.sessions) == 2
    await node.kernel.release(one)
    assert [session.closed.is_set() for session in card.sessions] == [True, False]
    await node.kernel.write(two, SELECT)
    assert await node.kernel.read(two) == SELECT + b"\x90\x00"


async def test_a_response_in_pieces(node: Node) -> None:
    node.reader.insert(FakeCard())
    fh = await node.kernel.open()
    await node.kernel.write(fh, SELECT)
    assert await node.kernel.read(fh, 2) == SELECT[:2]
    await node.failing(errno.EBUSY, node.kernel.write(fh, SELECT))
    assert await node.kernel.poll(fh) == READABLE
    assert await node.kernel.read(fh, 2) == SELECT[2:4]
    assert await node.kernel.read(fh, 99) == SELECT[4:] + b"\x90\x00"
    assert await node.kernel.poll(fh) == WRITABLE
    await node.failing(errno.EAGAIN, node.kernel.read(fh, flags=AT_ONCE))


async def test_the_longest_command_and_response(node: Node) -> None:
    node.reader.insert(FakeCard(lambda command: bytes(65_536) + b"\x90\x00"))
    fh = await node.kernel.open()
    assert await node.kernel.write(fh, bytes(65_544)) == 65_544
    assert len(await node.kernel.read(fh, 131_072)) == 65_538
    await node.failing(errno.EMSGSIZE, node.kernel.write(fh, bytes(65_545)))
    assert await node.kernel.poll(fh) == WRITABLE


async def test_a_write_does_not_wait_for_the_card(node: Node) -> None:
    card = SlowCard()
    node.reader.insert(card)
    fh = await node.kernel.open()
    assert await node.kernel.write(fh, SELECT) == 5
    await node.failing(errno.EAGAIN, node.kernel.read(fh, flags=AT_ONCE))
    await node.failing(errno.EBUSY, node.kernel.write(fh, SELECT))
    assert await node.kernel.poll(fh, kh=9) == 0
    reading = node.kernel.begin_read(fh)
    await asyncio.sleep(0.01)
    node.kernel.interrupt(reading)
    assert await node.kernel.answer(reading) == (errno.EINTR, b"")
    card.answer.set_result(b"\x90\x00")
    assert await node.kernel.read(fh) == b"\x90\x00"
    assert node.kernel.notified == [9]


async def test_readers_of_one_open_share_its_responses(node: Node) -> None:
    node.reader.insert(FakeCard())
    fh = await node.kernel.open()
    first, second = node.kernel.begin_read(fh), node.kernel.begin_read(fh)
    await node.kernel.write(fh, SELECT)
    got = [await node.kernel.answer(u) for u in await finished(node, first, second)]
    assert got == [(0, SELECT + b"\x90\x00")]
    await node.kernel.write(fh, SELECT)
    got = [await node.kernel.answer(u) for u in await finished(node, first, second)]
    assert got == [(0, SELECT + b"\x90\x00")]


async def finished(node: Node, *uniques: int) -> list[int]:
    """Which of these have an answer, once one has and the loop has come to rest."""
    async with asyncio.timeout(10):
        while not any(unique in node.kernel.answers for unique in uniques):
            node.kernel.collect()
            await asyncio.sleep(0.01)
    return [unique for unique in uniques if unique in node.kernel.answers]


async def test_no_card(node: Node) -> None:
    await node.failing(errno.ENOMEDIUM, node.kernel.open())
    await node.failing(errno.EINVAL, node.kernel.open(os.O_WRONLY))
    assert node.reader.hosts == set()


async def test_a_card_that_another_host_has(node: Node) -> None:
    class Owned(FakeCard):
        async def connect(self) -> Session:
            raise CardBusy("taken")

    node.reader.insert(Owned())
    await node.failing(errno.EBUSY, node.kernel.open())


async def test_the_card_leaves_while_a_read_waits(node: Node) -> None:
    node.reader.insert(FakeCard())
    fh = await node.kernel.open()
    reading = node.kernel.begin_read(fh)
    assert await node.kernel.poll(fh, kh=9) == WRITABLE
    generation = node.reader.remove()
    assert await node.reader.wait_seen(generation, 0)
    assert await node.kernel.answer(reading) == (errno.ENXIO, b"")
    assert node.kernel.notified == [9]
    assert await node.kernel.poll(fh) == GONE
    node.reader.insert(FakeCard())
    await node.failing(errno.ENXIO, node.kernel.write(fh, SELECT))
    await node.failing(errno.ENXIO, node.kernel.read(fh, flags=AT_ONCE))
    await node.failing(errno.ENXIO, node.kernel.ioctl(fh, GET_ATR, room=34))
    assert await node.kernel.ioctl(fh, RESET) == (0, b"")
    await node.kernel.write(fh, SELECT)
    assert await node.kernel.read(fh) == SELECT + b"\x90\x00"


async def test_the_card_leaves_while_it_works(node: Node) -> None:
    node.reader.insert(SlowCard())
    fh = await node.kernel.open()
    await node.kernel.write(fh, SELECT)
    reading = node.kernel.begin_read(fh)
    await asyncio.sleep(0.01)
    node.reader.remove()
    assert await node.kernel.answer(reading) == (errno.ENXIO, b"")
    await node.failing(errno.ENOMEDIUM, node.kernel.ioctl(fh, RESET))
    await node.kernel.release(fh)


async def test_a_response_outlives_its_card(node: Node) -> None:
    node.reader.insert(FakeCard())
    fh = await node.kernel.open()
    await node.kernel.write(fh, SELECT)
    node.reader.remove()
    assert await node.kernel.poll(fh) == READABLE | GONE
    assert await node.kernel.read(fh) == SELECT + b"\x90\x00"
    await node.failing(errno.ENXIO, node.kernel.read(fh))


async def test_a_session_that_another_host_ended(node: Node) -> None:
    card = FakeCard()
    node.reader.insert(card)
    fh = await node.kernel.open()
    card.sessions[0].close()
    await node.failing(errno.ENXIO, node.kernel.write(fh, SELECT))
    assert await node.kernel.poll(fh) == GONE


async def test_a_reset_ends_what_is_under_way(node: Node) -> None:
    card = SlowCard()
    node.reader.insert(card)
    fh = await node.kernel.open()
    await node.kernel.write(fh, SELECT)
    reading = node.kernel.begin_read(fh)
    await asyncio.sleep(0.01)
    assert await node.kernel.ioctl(fh, RESET) == (0, b"")
    assert await node.kernel.answer(reading) == (errno.ECANCELED, b"")
    assert [session.closed.is_set() for session in card.sessions] == [True, False]
    assert await node.kernel.poll(fh) == WRITABLE


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_card_that_fails(
    node: Node, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_later() -> bytes:
        raise KeyOperationError("the token failed")

    def fail(command: bytes) -> bytes:
        raise KeyOperationError("the token failed")

    node.reader.insert(FakeCard(fail if at_once else lambda command: fail_later()))
    fh = await node.kernel.open()
    if at_once:
        await node.failing(errno.EIO, node.kernel.write(fh, SELECT))
    else:
        await node.kernel.write(fh, SELECT)
        await node.failing(errno.EIO, node.kernel.read(fh))
    assert "the token failed" in caplog.text
    assert await node.kernel.poll(fh) == WRITABLE


async def test_an_onlooker_powers_nothing(node: Node) -> None:
    fh = await node.kernel.open(os.O_RDONLY)
    presence = struct.Struct("=II")
    assert await node.kernel.ioctl(fh, GET_PRESENCE, room=8) == (0, presence.pack(0, 0))
    await node.failing(errno.ENOMEDIUM, node.kernel.ioctl(fh, GET_ATR, room=34))
    assert await node.kernel.poll(fh, kh=9) == 0
    card = FakeCard()
    generation = node.reader.insert(card)
    assert await node.reader.wait_seen(generation, 0)
    assert await node.kernel.poll(fh) == select.POLLPRI
    assert node.kernel.notified == [9]
    assert await node.kernel.ioctl(fh, GET_PRESENCE, room=8) == (0, presence.pack(1, 1))
    assert await node.kernel.poll(fh) == 0
    _, atr = await node.kernel.ioctl(fh, GET_ATR, room=34)
    assert atr == bytes([len(ATR)]) + ATR.ljust(33, b"\0")
    await node.failing(errno.EINVAL, node.kernel.read(fh, flags=os.O_RDONLY))
    await node.failing(errno.EBADF, node.kernel.ioctl(fh, RESET))
    assert card.sessions == []


async def test_ioctls_of_an_open_card(node: Node) -> None:
    node.reader.insert(FakeCard())
    fh = await node.kernel.open()
    _, atr = await node.kernel.ioctl(fh, GET_ATR, room=34)
    assert atr == bytes([len(ATR)]) + ATR.ljust(33, b"\0")
    assert await node.kernel.ioctl(fh, GET_PRESENCE, room=8) == (0, struct.pack("=II", 1, 1))
    await node.failing(errno.ENOTTY, node.kernel.ioctl(fh, 0x5401))


async def test_the_node_goes(node: Node) -> None:
    card = FakeCard()
    node.reader.insert(card)
    fh = await node.kernel.open()
    reading = node.kernel.begin_read(fh)
    await asyncio.sleep(0.01)
    await node.frontend.stop()
    assert await node.kernel.answer(reading) == (errno.ENODEV, b"")
    assert card.sessions[0].closed.is_set()
    assert node.reader.hosts == set()


def test_the_header_has_the_same_numbers() -> None:
    text = HEADER.read_text()
    found = dict(re.findall(r"^#define (VCCID_\w+) +(_IO.*)$", text, re.MULTILINE))
    assert found == {
        "VCCID_GET_ATR": "_IOR(0xDC, 1, struct vccid_atr)",
        "VCCID_RESET": "_IO(0xDC, 2)",
        "VCCID_GET_PRESENCE": "_IOR(0xDC, 3, struct vccid_presence)",
    }
