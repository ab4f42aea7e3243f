# SPDX-License-Identifier: LGPL-2.1-or-later
"""A serial reader in the hands of one host: echo, time requests, garbage, flush, close."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.unit.ccid.host import message
from tests.unit.fakes import ATR, FakeCard
from tests.unit.tpdu.t1_host import lrc_block
from vccid.frontends import ccid_actions, ccid_host
from vccid.frontends.serial import serial_reader
from vccid.frontends.serial.serial_reader import SerialReader
from vccid.iso7816.atr import T1_ATR
from vccid.reader import Reader

from .twin_client import TwinClient, framed

SELECT = bytes.fromhex("00A4040000")
OK = b"\x90\x00"


class Line:
    """Bytes straight into a SerialReader."""

    def __init__(self, reader: Reader) -> None:
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.serial = SerialReader("pty", reader, None, self.sent.put_nowait)
        self.serial.open("test")
        self.client = TwinClient(self.serial.receive, self.sent.get)


@pytest.fixture
def reader() -> Reader:
    return Reader("office")


@pytest.fixture
async def line(reader: Reader) -> AsyncIterator[Line]:
    line = Line(reader)
    yield line
    line.serial.close()
    assert not reader.hosts


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EXTENSION_PERIOD", "BLOCK_PATIENCE"):
        monkeypatch.setattr(ccid_actions, name, 0.01)
    for name in ("EXCHANGE_GAP", "DEAF_AFTER", "COMES_WITHIN"):
        monkeypatch.setattr(ccid_host, name, 0.01)
    monkeypatch.setattr(serial_reader, "SILENCE", 0.01)


async def test_a_t0_card_is_used(reader: Reader, line: Line) -> None:
    reader.insert(FakeCard(lambda command: OK))
    assert await line.client.status() == 1
    assert await line.client.power_on() == ATR
    pps = bytes.fromhex("FF1018F7")
    assert await line.client.transmit(pps) == pps
    assert await line.client.transmit(SELECT) == OK


async def test_a_t1_card_is_used(reader: Reader, line: Line) -> None:
    reader.insert(FakeCard(lambda command: OK, T1_ATR))
    assert await line.client.power_on() == T1_ATR
    assert await line.client.transmit(lrc_block(0, SELECT)) == lrc_block(0, OK)
    # A warm reset begins the block protocol anew.
    assert await line.client.power_on() == T1_ATR
    assert await line.client.transmit(lrc_block(0, SELECT)) == lrc_block(0, OK)


async def test_pps_for_a_protocol_the_card_has_not(reader: Reader, line: Line) -> None:
    reader.insert(FakeCard())
    await line.client.power_on()
    answer = await line.client.command(0x6F, bytes.fromhex("FF01FE"))
    assert answer[7:9] == bytes.fromhex("41" "FE")


async def test_an_answer_comes_with_its_echo_in_one_piece(reader: Reader, line: Line) -> None:
    raw = message(0x65, 0, 7)
    line.serial.receive(framed(raw))
    assert line.sent.get_nowait() == framed(raw) + framed(
        bytes.fromhex("81" "00000000" "00" "07" "02" "00" "01")  # no card, clock stopped
    )
    assert line.sent.empty()


async def test_a_slow_t0_card_asks_for_time_with_single_bytes(
    reader: Reader, line: Line, quick: None
) -> None:
    async def slowly(command: bytes) -> bytes:
        while line.client.time_requests < 3:
            await asyncio.sleep(0)
        return OK

    reader.insert(FakeCard(slowly))
    await line.client.power_on()
    assert await line.client.transmit(SELECT) == OK
    assert line.client.time_requests >= 3


async def test_a_slow_t1_card_asks_for_time_with_blocks(
    reader: Reader, line: Line, quick: None
) -> None:
    go = asyncio.Event()

    async def slowly(command: bytes) -> bytes:
        await go.wait()
        return OK

    reader.insert(FakeCard(slowly, T1_ATR))
    await line.client.power_on()
    answer = await line.client.transmit(lrc_block(0, SELECT))
    assert answer == lrc_block(0xC3, b"\x01")
    go.set()
    assert await line.client.transmit(lrc_block(0xE3, b"\x01")) == lrc_block(0, OK)


async def test_a_damaged_frame_is_met_with_silence(reader: Reader, line: Line) -> None:
    line.serial.receive(framed(message(0x65, 0, 1))[:-1] + b"\0")
    assert line.sent.empty()
    assert await line.client.status() == 2


async def test_garbage_puts_nobody_out_of_step(reader: Reader, line: Line) -> None:
    line.serial.receive(b"login: \r\n\x00\xff")
    assert line.sent.empty()
    assert await line.client.status() == 2


async def test_a_frame_that_stops_halfway_is_given_up(
    reader: Reader, line: Line, quick: None
) -> None:
    line.serial.receive(framed(message(0x6F, 0, 1, data=bytes(100)))[:50])
    assert await line.client.status() == 2


async def test_insert_and_remove_are_noticed(reader: Reader, line: Line) -> None:
    assert await line.client.status() == 2
    generation = reader.insert(FakeCard())
    assert not await reader.wait_seen(generation, 0)
    assert await line.client.status() == 1
    assert await reader.wait_seen(generation, 0)
    await line.client.power_on()
    generation = reader.remove()
    assert await line.client.status() == 2
    assert await reader.wait_seen(generation, 0)


async def test_removal_in_the_middle_of_a_command(reader: Reader, line: Line) -> None:
    never = asyncio.Event()

    async def forever(command: bytes) -> bytes:
        await never.wait()
        return OK

    reader.insert(FakeCard(forever))
    await line.client.power_on()
    pending = asyncio.ensure_future(line.client.command(0x6F, SELECT))
    await asyncio.sleep(0.01)
    reader.remove()
    assert (await pending)[7:9] == bytes.fromhex("42" "FE")


async def test_who_says_nothing_holds_nobody_up(
    reader: Reader, line: Line, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_reader, "DEAF_AFTER", 0.0)
    assert await reader.wait_seen(reader.insert(FakeCard()), 5)


async def test_a_flush_drops_the_answer_nobody_waits_for(reader: Reader, line: Line) -> None:
    go = asyncio.Event()

    async def slowly(command: bytes) -> bytes:
        await go.wait()
        return OK

    card = FakeCard(slowly)
    reader.insert(card)
    await line.client.power_on()
    raw = message(0x6F, 0, 9, data=SELECT)
    line.serial.receive(framed(raw))
    assert await line.client.frame() == raw
    line.serial.flush()
    go.set()
    await asyncio.sleep(0.01)
    assert await line.client.status() == 1
    assert card.sessions[0].closed.is_set()


async def test_a_flush_of_an_idle_line_leaves_the_card_its_power(
    reader: Reader, line: Line
) -> None:
    reader.insert(FakeCard())
    await line.client.power_on()
    line.serial.receive(b"\x03\x06\x65")
    line.serial.flush()
    assert await line.client.status() == 0


async def test_each_open_is_a_host_of_its_own(reader: Reader, line: Line) -> None:
    card = FakeCard()
    reader.insert(card)
    await line.client.power_on()
    line.serial.close()
    assert card.sessions[0].closed.is_set()
    assert line.serial.status == "closed, opened once"
    line.serial.receive(framed(message(0x65, 0, 1)))
    assert line.sent.empty()
    line.serial.open("another")
    assert await line.client.status() == 1
    assert line.serial.status == "open, opened 2 times"
