# SPDX-License-Identifier: LGPL-2.1-or-later
"""A serial reader at a real pseudo-terminal: its link, who may open it, open and close."""

from __future__ import annotations

import asyncio
import os
import stat
import termios
import tty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.ccid.host import message
from tests.unit.fakes import ATR, FakeCard
from vccid.errors import ConfigError
from vccid.frontends.serial import pty as pty_module
from vccid.frontends.serial.pty import PtyFrontend
from vccid.reader import Reader

from .twin_client import TwinClient, framed


class Terminal:
    """The other end, opened as libccidtwin opens it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
        termios.tcflush(self.descriptor, termios.TCIOFLUSH)
        tty.setraw(self.descriptor, termios.TCSANOW)
        os.set_blocking(self.descriptor, False)
        self.client = TwinClient(self.write, self.read)

    def write(self, data: bytes) -> None:
        assert os.write(self.descriptor, data) == len(data)

    async def read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self.descriptor, lambda: ready.done() or ready.set_result(None))
        try:
            await asyncio.wait_for(ready, 10)
        finally:
            loop.remove_reader(self.descriptor)
        return os.read(self.descriptor, 4096)

    def close(self) -> None:
        os.close(self.descriptor)


@pytest.fixture
def reader() -> Reader:
    return Reader("office")


@pytest.fixture
async def pty(reader: Reader, tmp_path: Path) -> AsyncIterator[PtyFrontend]:
    frontend = PtyFrontend(reader, tmp_path / "office.tty")
    await frontend.start()
    yield frontend
    await frontend.stop()
    assert not reader.hosts


async def settle(reader: Reader, hosts: int) -> None:
    """Until the reader has so many hosts."""
    async with asyncio.timeout(10):
        while len(reader.hosts) != hosts:
            await asyncio.sleep(0.005)


async def test_a_card_is_used(reader: Reader, pty: PtyFrontend) -> None:
    reader.insert(FakeCard())
    terminal = Terminal(pty.path)
    assert await terminal.client.power_on() == ATR
    assert await terminal.client.status() == 0
    terminal.close()


async def test_open_and_close_are_noticed(reader: Reader, pty: PtyFrontend) -> None:
    card = FakeCard()
    reader.insert(card)
    assert pty.status == f"{pty.path}, closed, opened 0 times"
    for times in ("once", "2 times", "3 times"):
        terminal = Terminal(pty.path)
        assert await terminal.client.power_on() == ATR
        assert pty.status == f"{pty.path}, open, opened {times}"
        terminal.close()
        await settle(reader, 0)
        assert card.sessions[-1].closed.is_set()


async def test_half_a_frame_is_forgotten_with_the_one_who_sent_it(
    reader: Reader, pty: PtyFrontend
) -> None:
    terminal = Terminal(pty.path)
    terminal.write(framed(message(0x65, 0, 1))[:9])
    await settle(reader, 1)
    terminal.close()
    terminal = Terminal(pty.path)
    assert await terminal.client.status() == 2
    terminal.close()


async def test_one_byte_at_a_time(reader: Reader, pty: PtyFrontend) -> None:
    terminal = Terminal(pty.path)
    raw = message(0x65, 0, 1)
    for byte in framed(raw):
        terminal.write(bytes((byte,)))
        await asyncio.sleep(0)
    assert await terminal.client.frame() == raw
    assert (await terminal.client.frame())[7] == 2
    terminal.close()


async def test_every_byte_value_passes(reader: Reader, pty: PtyFrontend) -> None:
    reader.insert(FakeCard(lambda command: command[5:] + b"\x90\x00"))
    terminal = Terminal(pty.path)
    await terminal.client.power_on()
    for half in (range(128), range(128, 256)):
        data = bytes(half)
        command = bytes.fromhex("00D60000") + bytes((len(data),)) + data
        assert await terminal.client.transmit(command) == bytes.fromhex("6180")
        assert await terminal.client.transmit(bytes.fromhex("00C0000080")) == data + b"\x90\x00"
    terminal.close()


async def test_who_does_not_read_is_waited_for(reader: Reader, pty: PtyFrontend) -> None:
    terminal = Terminal(pty.path)
    raw = framed(message(0x65, 0, 1))
    commands, left, idle = 0, raw, 0
    while idle < 100:  # until nobody takes any more
        try:
            left = left[os.write(terminal.descriptor, left) :]
            idle = 0
        except BlockingIOError:
            idle += 1
        if not left:
            commands, left = commands + 1, raw
        await asyncio.sleep(0)
    assert len(pty._unsent) <= 3 * pty_module.MOST_UNSENT  # and what one read brings
    for _ in range(commands):
        assert await terminal.client.frame() == raw[2:-1]
        await terminal.client.frame()
    terminal.write(left)
    await terminal.client.frame()
    assert (await terminal.client.frame())[7] == 2
    terminal.close()


async def test_the_link_of_a_killed_daemon_is_replaced(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "office.tty"
    path.symlink_to("/dev/pts/99999")
    frontend = PtyFrontend(reader, path)
    await frontend.start()
    assert os.readlink(path) == frontend._terminal
    assert stat.S_ISCHR(path.stat().st_mode)
    await frontend.stop()
    assert not path.is_symlink()


async def test_another_daemons_link_is_left(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "office.tty"
    first, second = PtyFrontend(reader, path), PtyFrontend(reader, path)
    await first.start()
    await second.start()
    await first.stop()
    assert os.readlink(path) == second._terminal
    await second.stop()


@pytest.mark.parametrize("what", ["file", "link", "no directory"])
async def test_what_is_in_the_way_stays(reader: Reader, tmp_path: Path, what: str) -> None:
    path = tmp_path / "office.tty"
    if what == "file":
        path.write_text("mine")
    elif what == "link":
        path.symlink_to("/etc/hostname")
    else:
        path = tmp_path / "missing" / "office.tty"
    frontend = PtyFrontend(reader, path)
    with pytest.raises(ConfigError) as refused:
        await frontend.start()
    assert str(path) in refused.value.message and refused.value.hint
    assert path.is_symlink() == (what == "link")
    await frontend.stop()


async def test_a_path_with_a_colon_cannot_be(reader: Reader) -> None:
    with pytest.raises(ConfigError, match="colon"):
        PtyFrontend(reader, Path("/tmp/a:b"))


async def test_who_may_open_it(reader: Reader, tmp_path: Path) -> None:
    frontend = PtyFrontend(reader, tmp_path / "a.tty", mode=0o606)
    await frontend.start()
    mode = frontend.path.stat()
    assert (mode.st_mode & 0o777, mode.st_uid, mode.st_gid) == (0o606, os.geteuid(), os.getegid())
    await frontend.stop()


async def test_a_group_there_is_not(reader: Reader, tmp_path: Path) -> None:
    frontend = PtyFrontend(reader, tmp_path / "a.tty", group="nosuchgroup")
    with pytest.raises(ConfigError, match="nosuchgroup"):
        await frontend.start()


async def test_stopping_hangs_up(reader: Reader, tmp_path: Path) -> None:
    frontend = PtyFrontend(reader, tmp_path / "a.tty")
    await frontend.start()
    terminal = Terminal(frontend.path)
    assert await terminal.client.status() == 2
    await frontend.stop()
    assert not reader.hosts
    assert os.read(terminal.descriptor, 1) == b""
    terminal.close()
    await frontend.stop()
