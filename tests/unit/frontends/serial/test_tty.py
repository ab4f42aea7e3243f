# SPDX-License-Identifier: LGPL-2.1-or-later
"""A serial reader as a terminal: what system calls on it do, without the kernel between."""

from __future__ import annotations

import asyncio
import errno
import select
import struct
import termios
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.unit.ccid.host import message
from tests.unit.fakes import ATR, FakeCard
from vccid.errors import ReaderError
from vccid.frontends.cuse_channel import CuseFile, open_cuse
from vccid.frontends.serial import tty
from vccid.frontends.serial.tty import TtyFrontend
from vccid.reader import Reader
from vccid.wire import fuse

from .twin_client import TwinClient, framed

STATUS = framed(message(0x65, 0, 1))
TCGETS2, TCSETSF2 = 0x802C542A, 0x402C542D


class Opened:
    """One open(2) of the terminal, and the system calls behind it."""

    def __init__(self, terminal: TtyFrontend, uid: int = 0) -> None:
        self.woken = 0
        self.file = terminal._open(fuse.Open(1, uid, uid, 0, 0), self._wake)
        assert isinstance(self.file, CuseFile)
        self.client = TwinClient(self.write, self.read)

    def _wake(self) -> None:
        self.woken += 1

    def write(self, data: bytes) -> None:
        assert self.file.write(data, False) == len(data)

    async def read(self, size: int = 4096) -> bytes:
        got = self.file.read(size, True)
        return got if isinstance(got, bytes) else await asyncio.wait_for(got, 10)

    def ioctl(self, command: int, argument: int | bytes = 0, room: int = 0) -> bytes:
        """As the kernel carries it: asked for memory first, then with it."""
        data = argument if isinstance(argument, bytes) else b""
        number = 0x1000 if isinstance(argument, bytes) or room else argument
        answer = self.file.ioctl(fuse.Ioctl(1, 1, 2, command, number, 0, b""))
        if isinstance(answer, fuse.IoctlRetry):
            for base, size in (*answer.inputs, *answer.outputs):
                assert (base, size) == (0x1000, len(data) or room)
            answer = self.file.ioctl(fuse.Ioctl(2, 1, 2, command, number, room, data))
        assert isinstance(answer, fuse.IoctlResult)
        assert answer.value == 0
        return answer.data


@pytest.fixture
def reader() -> Reader:
    return Reader("office")


@pytest.fixture
async def terminal(reader: Reader) -> AsyncIterator[TtyFrontend]:
    terminal = TtyFrontend(reader, Path("/dev/ttyVCCID7"))
    yield terminal
    await terminal.stop()
    assert not reader.hosts


@pytest.fixture
async def opened(terminal: TtyFrontend) -> Opened:
    return Opened(terminal)


async def test_a_card_is_used(reader: Reader, opened: Opened) -> None:
    reader.insert(FakeCard())
    assert await opened.client.power_on() == ATR
    assert await opened.client.status() == 0


async def test_what_libccidtwin_does_to_open_it(opened: Opened) -> None:
    (signals,) = struct.unpack("=i", opened.ioctl(termios.TIOCMGET, room=4))
    opened.ioctl(termios.TIOCMSET, struct.pack("=i", signals & ~termios.TIOCM_RTS))
    assert opened.ioctl(termios.TIOCMGET, room=4) == struct.pack("=i", signals - 4)
    opened.ioctl(termios.TCFLSH, termios.TCIOFLUSH)
    attributes = opened.ioctl(termios.TCGETS, room=36)
    wanted = (
        struct.pack(
            "=IIII",
            termios.IGNBRK | termios.IGNPAR,  # c_iflag
            0,  # c_oflag
            termios.CS8
            | termios.CSTOPB
            | termios.CREAD
            | termios.CLOCAL
            | termios.B115200,  # c_cflag
            0,  # c_lflag
        )
        + attributes[16:]
    )  # c_line, c_cc
    opened.ioctl(termios.TCSETS, wanted)
    assert opened.ioctl(termios.TCGETS, room=36) == wanted
    assert opened.ioctl(TCGETS2, room=44)[:36] == wanted


async def test_other_ioctls_of_a_port(opened: Opened) -> None:
    opened.ioctl(termios.TIOCMBIC, struct.pack("=i", -1))
    opened.ioctl(termios.TIOCMBIS, struct.pack("=i", termios.TIOCM_DTR))
    assert opened.ioctl(termios.TIOCMGET, room=4) == struct.pack("=i", termios.TIOCM_DTR)
    assert opened.ioctl(termios.FIONREAD, room=4) == bytes(4)
    opened.write(STATUS)
    assert opened.ioctl(termios.FIONREAD, room=4) == struct.pack("=i", 2 * len(STATUS))
    assert opened.ioctl(termios.TIOCOUTQ, room=4) == bytes(4)
    assert opened.ioctl(termios.TCSBRK, 1) == b""
    opened.ioctl(TCSETSF2, opened.ioctl(TCGETS2, room=44))
    assert opened.ioctl(termios.FIONREAD, room=4) == bytes(4)
    for command, argument, error in (
        (0x5480, 0, errno.ENOTTY),
        (termios.TCFLSH, 3, errno.EINVAL),
    ):
        with pytest.raises(OSError) as refused:
            opened.ioctl(command, argument)
        assert refused.value.errno == error


async def test_reads_wait_or_not_as_the_file_and_the_port_say(opened: Opened) -> None:
    with pytest.raises(BlockingIOError):
        opened.file.read(1, False)
    assert opened.file.read(0, False) == b""
    waiting = asyncio.ensure_future(opened.read(3))
    await asyncio.sleep(0)
    opened.write(STATUS)
    assert await waiting == STATUS[:3]
    assert await opened.read() == STATUS[3:] + framed(
        bytes.fromhex("81" "00000000" "00" "01" "02" "00" "01")
    )
    # VMIN 0: what is there, at once or after VTIME tenths of a second.
    attributes = bytearray(opened.ioctl(termios.TCGETS, room=36))
    for vtime in (0, 1):
        attributes[17 + 5], attributes[17 + 6] = vtime, 0
        opened.ioctl(termios.TCSETS, bytes(attributes))
        assert await opened.read() == b""


async def test_poll_tells_of_answers(reader: Reader, opened: Opened) -> None:
    assert not opened.file.poll() & select.POLLIN
    assert opened.file.poll() & select.POLLOUT
    opened.write(STATUS)
    assert opened.woken
    assert opened.file.poll() & select.POLLIN


async def test_who_does_not_read_writes_no_more(opened: Opened) -> None:
    writes = 0
    while opened.file.poll() & select.POLLOUT:
        opened.write(STATUS)
        writes += 1
    with pytest.raises(BlockingIOError):
        opened.file.write(STATUS, False)
    waiting = opened.file.write(STATUS, True)
    assert not isinstance(waiting, int)
    later = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    assert not later.done()
    got = len(await opened.read(tty.MOST_UNREAD))
    assert await later == len(STATUS)
    while got < 2 * len(STATUS) * (writes + 1):
        got += len(await opened.read())


async def test_a_line_is_shared_and_hung_up_by_the_last(
    reader: Reader, terminal: TtyFrontend, opened: Opened
) -> None:
    card = FakeCard()
    reader.insert(card)
    await opened.client.power_on()
    other = Opened(terminal)
    other.file.release()
    assert await opened.client.status() == 0
    assert terminal.status == "/dev/ttyVCCID7, open, opened once"
    opened.file.release()
    assert card.sessions[0].closed.is_set()
    assert terminal.status == "/dev/ttyVCCID7, closed, opened once"


async def test_one_may_have_it_alone(terminal: TtyFrontend, opened: Opened) -> None:
    opened.ioctl(termios.TIOCEXCL)
    with pytest.raises(OSError) as refused:
        Opened(terminal, uid=1000)
    assert refused.value.errno == errno.EBUSY
    root = Opened(terminal)
    root.ioctl(termios.TIOCNXCL)
    Opened(terminal, uid=1000).file.release()
    root.ioctl(termios.TIOCEXCL)
    root.file.release()
    opened.file.release()
    Opened(terminal, uid=1000)


async def test_without_cuse_it_says_what_to_do(reader: Reader, tmp_path: Path) -> None:
    nowhere = partial(open_cuse, tmp_path / "cuse")
    terminal = TtyFrontend(reader, Path("/dev/ttyVCCID7"), connect=nowhere)
    with pytest.raises(ReaderError) as missing:
        await terminal.start()
    assert "modprobe cuse" in missing.value.hint and "attach pty" in missing.value.hint
    await terminal.stop()
