# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards that dial a vpcd, with a card side that sends exactly what the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.peers.far import FarReaders, until
from tests.unit.fakes import ATR
from vccid.backends.vpcd import LIMITS, VpcdListener
from vccid.errors import CardBusy, CardMute, CardRemoved, NotPermitted
from vccid.links.transport import Endpoint, parse_address
from vccid.process.log_rate_limit import BURST
from vccid.reader import Reader

QUICK = replace(LIMITS, readers=2, init=5.0, answer=5.0, idle=60.0)
OTHER_ATR = bytes.fromhex("3B 80 80 01 01")
SELECT = bytes.fromhex("00 A4 04 00 00")


class Vicc:
    """A card side, a frame at a time."""

    def __init__(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = stream
        self.writer = writer

    async def receive(self) -> bytes | None:
        """The next frame's data; None at the end of the stream."""
        try:
            size = int.from_bytes(await self._stream.readexactly(2), "big")
            return await self._stream.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def send(self, data: bytes) -> None:
        self.writer.write(len(data).to_bytes(2, "big") + data)

    async def tell_atr(self, atr: bytes = ATR) -> None:
        assert await self.receive() == b"\x04"
        self.send(atr)

    async def power_up(self, atr: bytes = ATR) -> None:
        assert await self.receive() == b"\x00"
        assert await self.receive() == b"\x01"
        await self.tell_atr(atr)


class Lab:
    """A listener, and card sides that dial it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "vpcd.sock"
        self.far = FarReaders()
        self.listener = VpcdListener(Endpoint(parse_address(str(self.path))), self.far, QUICK)
        self._writers: list[asyncio.StreamWriter] = []

    async def dial(self) -> Vicc:
        stream, writer = await asyncio.open_unix_connection(self.path)
        self._writers.append(writer)
        return Vicc(stream, writer)

    async def insert(self, atr: bytes = ATR) -> tuple[Vicc, Reader]:
        """A card that is in a reader."""
        count = len(self.far.readers)
        vicc = await self.dial()
        await vicc.tell_atr(atr)
        await until(lambda: len(self.far.readers) > count and self.far.readers[-1].card)
        return vicc, self.far.readers[-1]

    async def close(self) -> None:
        await self.listener.close()
        for writer in self._writers:
            writer.close()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path)
    await lab.listener.start()
    yield lab
    await lab.close()
    assert lab.far.readers == []


async def test_a_card_comes_works_and_goes(lab: Lab) -> None:
    vicc, reader = await lab.insert()
    assert reader.card is not None and reader.card.atr == ATR
    powering = asyncio.ensure_future(reader.power_on())
    await vicc.power_up()
    session = await powering
    answer = asyncio.ensure_future(session.transmit(SELECT))
    assert await vicc.receive() == SELECT
    vicc.send(b"\x90\x00")
    assert await answer == b"\x90\x00"
    reader.power_off(session)
    assert await vicc.receive() == b"\x00"
    vicc.writer.close()
    await until(lambda: not lab.far.readers)


async def test_the_atr_may_differ_after_power_up(lab: Lab) -> None:
    vicc, reader = await lab.insert()
    powering = asyncio.ensure_future(reader.power_on())
    await vicc.power_up(OTHER_ATR)
    assert (await powering).atr == OTHER_ATR
    assert reader.card is not None and reader.card.atr == OTHER_ATR


async def test_no_atr_after_power_up(lab: Lab) -> None:
    vicc, reader = await lab.insert()
    powering = asyncio.ensure_future(reader.power_on())
    await vicc.power_up(b"\x00")
    with pytest.raises(CardMute, match="no ATR"):
        await powering
    again = asyncio.ensure_future(reader.power_on())
    assert await vicc.receive() == b"\x00"  # of the session that failed
    await vicc.power_up()
    assert (await again).atr == ATR


async def test_byte_by_byte(lab: Lab) -> None:
    vicc = await lab.dial()
    assert await vicc.receive() == b"\x04"
    for byte in len(ATR).to_bytes(2, "big") + ATR:
        vicc.writer.write(bytes((byte,)))
        await asyncio.sleep(0)
    await until(lambda: lab.far.readers and lab.far.readers[0].card)


@pytest.mark.parametrize("atr", [b"\x90\x00", b"\x3b", bytes((0x3B,)) * 34], ids=len)
async def test_what_is_no_atr(lab: Lab, atr: bytes) -> None:
    vicc = await lab.dial()
    await vicc.tell_atr(atr)
    assert await vicc.receive() is None
    assert lab.far.readers == []


@pytest.mark.parametrize("frame", [b"", b"\x90\x00"], ids=["no bytes", "not asked for"])
async def test_frames_that_end_the_card(lab: Lab, frame: bytes) -> None:
    vicc, _ = await lab.insert()
    vicc.send(frame)
    assert await vicc.receive() is None
    await until(lambda: not lab.far.readers)


async def test_lengths_that_are_no_command_never_reach_it(lab: Lab) -> None:
    vicc, reader = await lab.insert()
    powering = asyncio.ensure_future(reader.power_on())
    await vicc.power_up()
    session = await powering
    for size in (0, 1, 65536):
        assert await session.transmit(bytes(size)) == b"\x67\x00"
    answer = asyncio.ensure_future(session.transmit(SELECT))
    assert await vicc.receive() == SELECT
    vicc.send(b"\x90")
    assert await answer == b"\x6f\x00"


async def test_a_card_that_dies_at_work(lab: Lab) -> None:
    vicc, reader = await lab.insert()
    powering = asyncio.ensure_future(reader.power_on())
    await vicc.power_up()
    answer = asyncio.ensure_future((await powering).transmit(SELECT))
    assert await vicc.receive() == SELECT
    vicc.writer.transport.abort()
    with pytest.raises(CardRemoved):
        await answer
    await until(lambda: not lab.far.readers)


async def test_a_mute_card_is_let_go(tmp_path: Path) -> None:
    far = FarReaders()
    place = Endpoint(parse_address(str(tmp_path / "vpcd.sock")))
    listener = VpcdListener(place, far, replace(QUICK, answer=0.05))
    await listener.start()
    try:
        vicc = Vicc(*await asyncio.open_unix_connection(tmp_path / "vpcd.sock"))
        await vicc.tell_atr()
        await until(lambda: far.readers and far.readers[0].card)
        with pytest.raises(CardRemoved):
            await far.readers[0].power_on()
        await until(lambda: not far.readers)
    finally:
        await listener.close()


async def test_one_that_tells_no_atr_is_let_go(tmp_path: Path) -> None:
    place = Endpoint(parse_address(str(tmp_path / "vpcd.sock")))
    listener = VpcdListener(place, FarReaders(), replace(QUICK, init=0.05))
    await listener.start()
    try:
        vicc = Vicc(*await asyncio.open_unix_connection(tmp_path / "vpcd.sock"))
        assert await vicc.receive() == b"\x04"
        assert await vicc.receive() is None
    finally:
        await listener.close()


async def test_each_card_has_a_reader_until_there_are_enough(lab: Lab) -> None:
    await lab.insert()
    _, second = await lab.insert(OTHER_ATR)
    assert second.card is not None and second.card.atr == OTHER_ATR
    third = await lab.dial()
    await third.tell_atr()
    assert await third.receive() is None
    assert len(lab.far.readers) == 2


async def test_one_host_at_a_time(lab: Lab) -> None:
    vicc, reader = await lab.insert()
    powering = asyncio.ensure_future(reader.power_on())
    await vicc.power_up()
    await powering
    with pytest.raises(CardBusy):
        await reader.power_on()


async def test_a_host_that_gives_up_while_it_powers_on(lab: Lab) -> None:
    vicc, reader = await lab.insert()
    powering = asyncio.ensure_future(reader.power_on())
    assert await vicc.receive() == b"\x00"
    powering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await powering
    assert [await vicc.receive() for _ in range(3)] == [b"\x01", b"\x04", b"\x00"]
    vicc.send(ATR)
    again = asyncio.ensure_future(reader.power_on())
    await vicc.power_up(OTHER_ATR)
    assert (await again).atr == OTHER_ATR


def test_plain_tcp_beyond_loopback_is_refused() -> None:
    with pytest.raises(NotPermitted):
        VpcdListener(Endpoint(parse_address("192.0.2.7:35963")), FarReaders())


async def test_cards_of_no_use_have_their_share_of_the_log(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2 * BURST):
        vicc = await lab.dial()
        assert await vicc.receive() == b"\x04"
        vicc.send(b"\x3b")
        assert await vicc.receive() is None
    assert 1 <= len(caplog.records) <= 2 * BURST - 5
    assert len({record.msg for record in caplog.records}) <= 2
