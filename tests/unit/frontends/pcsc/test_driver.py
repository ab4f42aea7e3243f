# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's end of the driver's socket, spoken to byte by byte."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.peers.plain_card import (
    ATR_T0,
    ATR_T1,
    COUNT,
    SELECT,
    WAIT,
    PlainCard,
    PlainSession,
    long_answer,
    pattern,
)
from vccid.card.card import Session
from vccid.errors import CardBusy, ConfigError, KeyOperationError
from vccid.frontends.pcsc import driver as frontend_module
from vccid.frontends.pcsc.driver import IfdFrontend
from vccid.links import user_names
from vccid.links.user_names import Lookup
from vccid.reader import Event, Reader

PATIENCE = 10
HELLO = b"\x01\x00\x00\x00\x00\x0bVCCIDIFD\x00\x01"
EVENTS, COMMANDS = b"\x01", b"\x02"
POWER_ON, POWER_OFF, RESET, TRANSMIT, CONTROL, BUSY = 0x10, 0x11, 0x12, 0x13, 0x14, 0x04
OK, CARD_REMOVED, CARD_BUSY, NOT_SUPPORTED, FAILED = range(5)


def frame(kind: int, payload: bytes = b"", status: int = 0) -> bytes:
    return bytes([kind, status]) + len(payload).to_bytes(4, "big") + payload


def card_frame(generation: int, atr: bytes | None) -> bytes:
    flag = b"\x00" if atr is None else b"\x01"
    return frame(0x02, flag + generation.to_bytes(8, "big") + (atr or b""))


class Driver:
    """One connection, as the driver makes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path, role: bytes = b"") -> Driver:
        driver = cls(*await asyncio.open_unix_connection(path))
        if role:
            driver.writer.write(HELLO + role)
            assert await driver.receive(17) == HELLO + role
        return driver

    async def receive(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), PATIENCE)

    async def ask(self, kind: int, payload: bytes = b"") -> tuple[int, bytes]:
        """Status and payload of the answer."""
        self.writer.write(frame(kind, payload))
        return await self.answer(kind)

    async def answer(self, kind: int) -> tuple[int, bytes]:
        header = await self.receive(6)
        assert header[0] == kind
        return header[1], await self.receive(int.from_bytes(header[2:], "big"))

    async def dropped(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), PATIENCE) == b""
        except ConnectionResetError:
            return True

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def reader(events: list[Event]) -> Reader:
    return Reader("vccid0", events.append)


@pytest.fixture
async def frontend(reader: Reader, tmp_path: Path) -> AsyncIterator[IfdFrontend]:
    frontend = IfdFrontend(reader, tmp_path / "vccid0.ifd", keepalive=0.02)
    await frontend.start()
    yield frontend
    await frontend.stop()


async def powered(frontend: IfdFrontend) -> Driver:
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(POWER_ON) == (OK, ATR_T0)
    return commands


async def until(condition: object) -> None:
    """Wait until a callable is true."""
    assert callable(condition)
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_host_is_told_of_the_card_and_tells_what_pcscd_saw(
    frontend: IfdFrontend, reader: Reader, events: list[Event]
) -> None:
    driver = await Driver.connect(frontend.path, EVENTS)
    assert await driver.receive(15) == card_frame(0, None)
    generation = reader.insert(PlainCard())
    assert await driver.receive(30) == card_frame(1, ATR_T0)
    waiting = asyncio.create_task(reader.wait_seen(generation, PATIENCE))
    await asyncio.sleep(0)
    assert not waiting.done()
    driver.writer.write(frame(0x03, (1).to_bytes(8, "big")))
    assert await waiting
    peer = f"ifd pcscd (pid {os.getpid()})"
    assert events[-1] == Event("host-saw", "vccid0", peer)
    await driver.close()
    await until(lambda: not reader.hosts)
    assert events[-1] == Event("host-detached", "vccid0", peer)


async def test_an_exchange_is_two_events(frontend: IfdFrontend, reader: Reader) -> None:
    reader.insert(PlainCard())
    driver = await Driver.connect(frontend.path, EVENTS)
    assert await driver.receive(30) == card_frame(1, ATR_T0)
    reader.remove()
    reader.insert(PlainCard(ATR_T1))
    assert await driver.receive(15) == card_frame(2, None)
    assert await driver.receive(32) == card_frame(3, ATR_T1)


async def test_each_power_on_is_a_new_session(frontend: IfdFrontend, reader: Reader) -> None:
    reader.insert(PlainCard())
    commands = await powered(frontend)
    assert await commands.ask(TRANSMIT, SELECT) == (OK, b"\x90\x00")
    assert await commands.ask(TRANSMIT, COUNT) == (OK, b"\x01\x90\x00")
    assert await commands.ask(RESET) == (OK, ATR_T0)
    assert await commands.ask(TRANSMIT, COUNT) == (OK, b"\x00\x90\x00")
    assert await commands.ask(TRANSMIT, SELECT) == (OK, b"\x90\x00")
    assert await commands.ask(POWER_ON) == (OK, ATR_T0)
    assert await commands.ask(TRANSMIT, COUNT) == (OK, b"\x00\x90\x00")


async def test_two_hosts_have_a_session_each(frontend: IfdFrontend, reader: Reader) -> None:
    card = PlainCard()
    reader.insert(card)
    one, other = await powered(frontend), await powered(frontend)
    await one.ask(TRANSMIT, SELECT)
    assert await other.ask(TRANSMIT, COUNT) == (OK, b"\x00\x90\x00")
    assert await one.ask(TRANSMIT, COUNT) == (OK, b"\x01\x90\x00")
    assert len(card.sessions) == 2
    await one.close()
    await until(lambda: len(card.sessions) == 1)
    assert await other.ask(POWER_OFF) == (OK, b"")
    assert not card.sessions
    assert await other.ask(TRANSMIT, SELECT) == (FAILED, b"")


async def test_an_empty_reader_answers_card_removed(frontend: IfdFrontend) -> None:
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(POWER_ON) == (CARD_REMOVED, b"")
    assert await commands.ask(TRANSMIT, SELECT) == (CARD_REMOVED, b"")
    assert await commands.ask(POWER_OFF) == (OK, b"")


async def test_the_longest_answer(frontend: IfdFrontend, reader: Reader) -> None:
    reader.insert(PlainCard())
    commands = await powered(frontend)
    for _ in range(5):
        answer = await commands.ask(TRANSMIT, long_answer(65536))
        assert answer == (OK, pattern(65536) + b"\x90\x00")


async def test_busy_is_said_while_the_card_works(frontend: IfdFrontend, reader: Reader) -> None:
    card = PlainCard()
    reader.insert(card)
    commands = await powered(frontend)
    commands.writer.write(frame(TRANSMIT, WAIT))
    assert await commands.receive(6) == frame(BUSY)
    assert await commands.receive(6) == frame(BUSY)
    card.finish()
    while (header := await commands.receive(6)) == frame(BUSY):
        pass
    assert header + await commands.receive(2) == frame(TRANSMIT, b"\x90\x00")
    assert await commands.ask(TRANSMIT, SELECT) == (OK, b"\x90\x00")


async def test_removal_answers_the_command_under_way(tmp_path: Path, reader: Reader) -> None:
    frontend = IfdFrontend(reader, tmp_path / "vccid0.ifd")
    await frontend.start()
    card = PlainCard()
    reader.insert(card)
    commands = await powered(frontend)
    commands.writer.write(frame(TRANSMIT, WAIT))
    await until(lambda: any(session.waiting for session in card.sessions))
    reader.remove()
    assert await commands.answer(TRANSMIT) == (CARD_REMOVED, b"")
    reader.insert(PlainCard())
    assert await commands.ask(TRANSMIT, SELECT) == (FAILED, b"")
    assert await commands.ask(POWER_ON) == (OK, ATR_T0)
    await frontend.stop()


async def test_a_card_without_power_fails_a_command_and_stays(
    frontend: IfdFrontend, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    """CARD_REMOVED would take it from every program."""
    reader.insert(PlainCard())
    commands = await powered(frontend)
    assert await commands.ask(POWER_OFF) == (OK, b"")
    for _ in range(3):
        assert await commands.ask(TRANSMIT, SELECT) == (FAILED, b"")
    assert await commands.ask(POWER_ON) == (OK, ATR_T0)
    assert await commands.ask(TRANSMIT, SELECT) == (OK, b"\x90\x00")
    assert not caplog.records


async def test_the_end_of_the_card_before_is_not_told_of_the_new_one(
    frontend: IfdFrontend, reader: Reader
) -> None:
    before = PlainCard()
    reader.insert(before)
    commands = await powered(frontend)
    reader.remove()
    assert await commands.ask(TRANSMIT, SELECT) == (CARD_REMOVED, b"")
    reader.insert(PlainCard())
    commands = await powered(frontend)
    reader.remove()
    reader.insert(PlainCard())
    assert await commands.ask(TRANSMIT, SELECT) == (FAILED, b"")
    assert await commands.ask(POWER_ON) == (OK, ATR_T0)
    assert await commands.ask(TRANSMIT, COUNT) == (OK, b"\x00\x90\x00")


async def test_a_host_that_leaves_during_a_command_ends_its_session(
    frontend: IfdFrontend, reader: Reader
) -> None:
    card = PlainCard()
    reader.insert(card)
    commands = await powered(frontend)
    commands.writer.write(frame(TRANSMIT, WAIT))
    assert await commands.receive(6) == frame(BUSY)
    await commands.close()
    await until(lambda: not card.sessions)


class SlowCard(PlainCard):
    """Takes its time to power on, or fails at it."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self._failure = failure

    async def connect(self) -> Session:
        if self._failure is not None:
            raise self._failure
        await self.gate.wait()
        return await super().connect()


async def test_a_host_that_leaves_during_power_on_leaves_no_session(
    frontend: IfdFrontend, reader: Reader
) -> None:
    card = SlowCard()
    reader.insert(card)
    commands = await Driver.connect(frontend.path, COMMANDS)
    commands.writer.write(frame(POWER_ON))
    assert await commands.receive(6) == frame(BUSY)
    await commands.close()
    card.gate.set()
    await until(lambda: not frontend._connections)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not card.sessions


async def test_a_card_another_host_owns_is_busy(
    frontend: IfdFrontend, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    reader.insert(SlowCard(CardBusy("host B owns the card")))
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(POWER_ON) == (CARD_BUSY, b"")
    assert [record.reader for record in caplog.records] == ["vccid0"]  # type: ignore[attr-defined]
    assert "host B owns the card" in caplog.text


async def test_any_other_failure_of_the_card(frontend: IfdFrontend, reader: Reader) -> None:
    reader.insert(SlowCard(KeyOperationError("no")))
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(RESET) == (FAILED, b"")


async def test_whatever_a_command_comes_to_is_answered(
    frontend: IfdFrontend, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on threads, for one."""
    error = RuntimeError("can't start new thread")

    def execute(session: PlainSession, command: bytes) -> bytes:
        raise error

    reader.insert(PlainCard())
    commands = await powered(frontend)
    monkeypatch.setattr(PlainSession, "execute", execute)
    assert await commands.ask(TRANSMIT, SELECT) == (FAILED, b"")
    reader.remove()
    reader.insert(SlowCard(error))
    assert await commands.ask(RESET) == (FAILED, b"")


@pytest.mark.parametrize("code", ["42000D48", "42330006", "42330007", "4233000A", "42330012"])
async def test_without_a_pin_pad_no_control_code_is_served(
    frontend: IfdFrontend, code: str
) -> None:
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(CONTROL, bytes.fromhex(code)) == (NOT_SUPPORTED, b"")


async def test_the_serial_number_is_told(reader: Reader, tmp_path: Path) -> None:
    frontend = IfdFrontend(reader, tmp_path / "vccid0.ifd", "0123456789ABCDEF")
    await frontend.start()
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(CONTROL, bytes.fromhex("42007663")) == (OK, b"0123456789ABCDEF")
    await frontend.stop()


GARBAGE = {
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "no HELLO": frame(POWER_ON),
    "a 4 GiB length": b"\x13\x00\xff\xff\xff\xff",
    "two HELLO": HELLO + COMMANDS + HELLO + COMMANDS,
    "an event's role asks": HELLO + EVENTS + frame(TRANSMIT, SELECT),
    "a command's role has seen": HELLO + COMMANDS + frame(0x03, bytes(8)),
    "seen what is to come": HELLO + EVENTS + frame(0x03, b"\xff" * 8),
    "two commands at once": HELLO + COMMANDS + frame(TRANSMIT, WAIT) * 2,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_dropped_with_one_line_and_harms_nobody(
    frontend: IfdFrontend, reader: Reader, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    reader.insert(PlainCard())
    good = await powered(frontend)
    for _ in range(3):
        bad = await Driver.connect(frontend.path)
        bad.writer.write(garbage.replace(frame(TRANSMIT, WAIT) * 2, frame(POWER_ON) * 2))
        while not await bad.dropped():
            pass
    assert await good.ask(TRANSMIT, SELECT) == (OK, b"\x90\x00")
    # What asyncio says of tasks that other tests left is no line of ours.
    (line,) = (record for record in caplog.records if record.name.startswith("vccid"))
    assert line.levelname == "WARNING"
    assert "broke the driver's protocol" in caplog.text


async def test_a_peer_that_does_not_read_is_let_go(
    frontend: IfdFrontend, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    reader.insert(PlainCard())
    slow = await powered(frontend)
    slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            slow.writer.write(frame(TRANSMIT, long_answer(65536)))
            await slow.writer.drain()
            await asyncio.sleep(0)
    assert "does not read" in caplog.text
    assert len(caplog.records) == 1
    good = await powered(frontend)
    assert await good.ask(TRANSMIT, SELECT) == (OK, b"\x90\x00")


async def test_a_driver_of_another_version_is_told_ours(
    frontend: IfdFrontend, caplog: pytest.LogCaptureFixture
) -> None:
    driver = await Driver.connect(frontend.path)
    driver.writer.write(HELLO[:-1] + b"\x02" + COMMANDS)
    assert await driver.receive(17) == HELLO + COMMANDS
    assert await driver.dropped()
    assert "protocol version 2, this daemon speaks 1" in caplog.text


async def test_who_may_not_connect_is_told_why_in_the_log(
    frontend: IfdFrontend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontend_module, "_peer_of", lambda transport: (4711, 12345))
    await user_names.numbers.wait(frontend_module.PCSCD, PATIENCE)
    for _ in range(2):
        driver = await Driver.connect(frontend.path)
        assert await driver.dropped()
    assert len(caplog.records) == 1
    assert "user id 12345 (pid 4711) was refused" in caplog.text
    assert "run pcscd as one of these" in caplog.text


async def test_who_comes_before_pcscds_user_is_known_is_let_go_without_a_word(
    frontend: IfdFrontend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = threading.Event()

    def pcscd(name: str) -> int:
        known.wait(PATIENCE)
        return 12345

    monkeypatch.setattr(frontend_module, "_peer_of", lambda transport: (4711, 12345))
    monkeypatch.setattr(user_names, "numbers", Lookup(pcscd, lambda name: user_names.UNKNOWN))
    driver = await Driver.connect(frontend.path)
    assert await driver.dropped()
    known.set()
    await user_names.numbers.wait(frontend_module.PCSCD, PATIENCE)
    await powered_off(frontend)
    assert caplog.records == []


async def powered_off(frontend: IfdFrontend) -> None:
    """Somebody is served who finds no card."""
    commands = await Driver.connect(frontend.path, COMMANDS)
    assert await commands.ask(POWER_OFF) == (OK, b"")


async def test_no_apdu_is_logged(
    frontend: IfdFrontend, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reader.insert(PlainCard())
    commands = await powered(frontend)
    await commands.ask(TRANSMIT, bytes.fromhex("0020000006313233343536"))
    assert not [record for record in caplog.records if record.name.startswith("vccid")]


async def test_anybody_may_connect_and_the_kernel_says_who_it_is(frontend: IfdFrontend) -> None:
    status = frontend.path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o666
    groups = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    assert status.st_gid == groups.get("pcscd", os.getegid())


async def test_stop_removes_the_socket_and_lets_drivers_go(reader: Reader, tmp_path: Path) -> None:
    frontend = IfdFrontend(reader, tmp_path / "vccid0.ifd")
    await frontend.start()
    driver = await Driver.connect(frontend.path, COMMANDS)
    await frontend.stop()
    assert await driver.dropped()
    assert not frontend.path.exists()
    await frontend.stop()


async def test_a_socket_left_by_a_killed_daemon_is_replaced(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "vccid0.ifd"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    frontend = IfdFrontend(reader, path)
    await frontend.start()
    await Driver.connect(path, COMMANDS)
    await frontend.stop()


async def test_what_is_in_the_way_stays(
    frontend: IfdFrontend, reader: Reader, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="another daemon listens") as error:
        await IfdFrontend(reader, frontend.path).start()
    assert error.value.hint
    await Driver.connect(frontend.path, COMMANDS)
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        await IfdFrontend(reader, file).start()
    assert file.read_text() == "precious"
    for path in (tmp_path / "none" / "socket", tmp_path / ("x" * 108)):
        with pytest.raises(ConfigError, match="cannot listen"):
            await IfdFrontend(reader, path).start()
