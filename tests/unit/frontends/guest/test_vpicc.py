# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our card at a vpcd that asks exactly what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.peers.far import until
from tests.unit.fakes import ATR, FakeCard
from vccid.errors import CardRemoved, NotPermitted
from vccid.frontends.dialling import Timing
from vccid.frontends.guest.vpicc import VpiccFrontend
from vccid.frontends.guest.vpicc_states import State
from vccid.links.transport import Endpoint, parse_address
from vccid.reader import Reader

QUICK = Timing(first_retry=0.01, last_retry=0.02, leave=5.0)
T1_ATR = bytes.fromhex("3B F7 13 00 00 81 31 FE 45 80 31 C1 73 C0 21 C0 CD")


class Vpcd:
    """The reader side of one slot."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: asyncio.Server | None = None
        self._dialled: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        self._dialled = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._take, self.path)

    async def _take(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._dialled.put_nowait((stream, writer))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

    async def card(self) -> Slot:
        """The next card that dials."""
        return Slot(*await self._dialled.get())


class Slot:
    """One card."""

    def __init__(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = stream
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(len(data).to_bytes(2, "big") + data)

    async def ask(self, data: bytes) -> bytes | None:
        self.send(data)
        return await self.answer()

    async def answer(self) -> bytes | None:
        """None where the card is gone."""
        try:
            size = int.from_bytes(await self._stream.readexactly(2), "big")
            return await self._stream.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def see_it_leave(self) -> None:
        """As vpcd does when it looks the next time."""
        assert await self.answer() is None
        self.writer.close()


@pytest.fixture
async def vpcd(tmp_path: Path) -> AsyncIterator[Vpcd]:
    vpcd = Vpcd(tmp_path / "vpcd.sock")
    await vpcd.start()
    yield vpcd
    await vpcd.stop()


@pytest.fixture
def reader() -> Reader:
    return Reader("vccid0")


@pytest.fixture
async def frontend(vpcd: Vpcd, reader: Reader) -> AsyncIterator[VpiccFrontend]:
    frontend = VpiccFrontend(reader, Endpoint(parse_address(str(vpcd.path))), QUICK)
    await frontend.start()
    yield frontend
    await frontend.stop()
    assert frontend.status == "closed"
    assert not reader.hosts


async def test_a_card_is_a_connection(vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend) -> None:
    assert frontend.status == "waiting for a card"
    generation = reader.insert(FakeCard())
    slot = await vpcd.card()
    assert await slot.ask(b"\x04") == ATR
    assert await reader.wait_seen(generation, 5)
    assert frontend.status == "attached"
    slot.send(b"\x01")
    assert await slot.ask(b"\x04") == ATR
    assert await slot.ask(b"\x00\xb0\x00\x00\x01") == b"\x00\xb0\x00\x00\x01\x90\x00"
    gone = asyncio.ensure_future(reader.wait_seen(reader.remove(), 5))
    await slot.see_it_leave()
    assert await gone
    assert frontend.commands == 1


async def test_an_exchange_is_two_connections(
    vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    reader.insert(FakeCard())
    slot = await vpcd.card()
    assert await slot.ask(b"\x04") == ATR
    reader.remove()
    generation = reader.insert(FakeCard(atr=T1_ATR))
    await slot.see_it_leave()
    second = await vpcd.card()
    assert await second.ask(b"\x04") == T1_ATR
    assert await reader.wait_seen(generation, 5)


async def test_power_and_reset_begin_a_session(
    vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    card = FakeCard()
    reader.insert(card)
    slot = await vpcd.card()
    for control in (b"\x01", b"\x02"):
        slot.send(control)
        assert await slot.ask(b"\x00\xb0\x00\x00") == b"\x00\xb0\x00\x00\x90\x00"
    slot.send(b"\x00")
    assert await slot.ask(b"\x04") == ATR
    assert [session.closed.is_set() for session in card.sessions] == [True, True]
    # Without having been powered on: the command is the power-on.
    assert await slot.ask(b"\x00\xb0\x00\x00") == b"\x00\xb0\x00\x00\x90\x00"
    assert len(card.sessions) == 3


async def test_an_unknown_control_and_an_empty_frame_are_not_answered(
    vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    reader.insert(FakeCard())
    slot = await vpcd.card()
    for frame in (b"\x03", b"\xff", b""):
        slot.send(frame)
    assert await slot.ask(b"\x04") == ATR


async def test_byte_by_byte_and_all_at_once(
    vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    async def later(command: bytes) -> bytes:
        await asyncio.sleep(0.01)
        return command + b"\x90\x00"

    reader.insert(FakeCard(later))
    slot = await vpcd.card()
    stream = bytes.fromhex("00 01 01  00 01 04  00 04 00 B0 00 01  00 04 00 B0 00 02  00 01 04")
    for cut in (1, len(stream)):
        for at in range(0, len(stream), cut):
            slot.writer.write(stream[at : at + cut])
            await asyncio.sleep(0)
        answers = [await slot.answer() for _ in range(4)]
        assert answers == [
            ATR,
            bytes.fromhex("00 B0 00 01 90 00"),
            bytes.fromhex("00 B0 00 02 90 00"),
            ATR,
        ]


async def test_a_vpcd_that_goes_and_comes_back(
    tmp_path: Path, vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    reader.insert(FakeCard())
    slot = await vpcd.card()
    assert await slot.ask(b"\x04") == ATR
    await vpcd.stop()
    vpcd.path.unlink(missing_ok=True)  # from 3.13 on, asyncio has removed it
    await until(lambda: frontend.status.startswith("dialling: "))
    assert not reader.hosts  # so that nobody waits for it
    back = Vpcd(vpcd.path)
    await back.start()
    try:
        slot = await back.card()
        assert await slot.ask(b"\x04") == ATR
        await until(lambda: reader.hosts)
    finally:
        await back.stop()


async def test_nobody_waits_for_one_that_was_never_there(tmp_path: Path, reader: Reader) -> None:
    place = Endpoint(parse_address(str(tmp_path / "nothing")))
    frontend = VpiccFrontend(reader, place, QUICK)
    await frontend.start()
    assert await reader.wait_seen(reader.insert(FakeCard()), 5)
    assert await reader.wait_seen(reader.remove(), 5)
    await until(lambda: frontend.state is State.EMPTY)
    assert await reader.wait_seen(reader.insert(FakeCard()), 5)
    await frontend.stop()


async def test_a_slot_that_never_looks_is_told_of(
    vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    reader.insert(FakeCard())
    await vpcd.card()
    await until(lambda: "its slot may have another card" in frontend.status)


async def test_a_lost_session_is_shown_as_a_removal(
    vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    def lost(command: bytes) -> bytes:
        raise CardRemoved("another host has it now")

    reader.insert(FakeCard(lost))
    slot = await vpcd.card()
    assert await slot.ask(b"\x04") == ATR
    assert await slot.ask(b"\x00\xb0\x00\x00") is None
    assert await (await vpcd.card()).ask(b"\x04") == ATR


async def test_an_answer_too_long_for_a_frame(
    vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    reader.insert(FakeCard(lambda command: bytes(65536) + b"\x90\x00"))
    slot = await vpcd.card()
    assert await slot.ask(b"\x00\xb0\x00\x00") == b"\x6f\x00"


async def test_the_card_leaves_while_it_works(
    vpcd: Vpcd, reader: Reader, frontend: VpiccFrontend
) -> None:
    started = asyncio.Event()

    async def never(command: bytes) -> bytes:
        started.set()
        await asyncio.Event().wait()
        return b""

    reader.insert(FakeCard(never))
    slot = await vpcd.card()
    slot.send(b"\x00\xb0\x00\x00")
    await started.wait()
    reader.remove()
    await slot.see_it_leave()
    await until(lambda: frontend.state is State.EMPTY)


@pytest.mark.parametrize("moment", ["empty", "dialling", "connected", "shown"])
async def test_it_can_be_stopped_at_any_moment(
    tmp_path: Path, vpcd: Vpcd, reader: Reader, moment: str
) -> None:
    path = tmp_path / "nothing" if moment == "dialling" else vpcd.path
    frontend = VpiccFrontend(reader, Endpoint(parse_address(str(path))), QUICK)
    await frontend.start()
    slot = None
    if moment != "empty":
        reader.insert(FakeCard())
    if moment in ("connected", "shown"):
        slot = await vpcd.card()
    if moment == "shown" and slot is not None:
        assert await slot.ask(b"\x04") == ATR
    await asyncio.sleep(0)
    await frontend.stop()
    await frontend.stop()
    if slot is not None:
        assert await slot.answer() is None
    assert frontend.status == "closed"


def test_plain_tcp_beyond_loopback_is_refused(reader: Reader) -> None:
    with pytest.raises(NotPermitted):
        VpiccFrontend(reader, Endpoint(parse_address("192.0.2.7:35963")))
