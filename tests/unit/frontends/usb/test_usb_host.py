# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host over USB: sessions, waiting cards, insertion and removal, the key pad."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.unit.ccid.test_pin_entry import MODIFY, VERIFY
from tests.unit.fakes import ATR, FakeCard
from vccid.card.card import Card, CardInfo, Session
from vccid.errors import CardBusy, KeyOperationError, ReaderError
from vccid.frontends import ccid_actions, ccid_host
from vccid.frontends.pin_pad import PinPad
from vccid.reader import Reader

from .usb_client import Cable, usb_reader

SELECT = bytes.fromhex("00A4040000")


@pytest.fixture
def reader() -> Reader:
    return Reader("office")


@pytest.fixture
def pin_pad() -> PinPad:
    return PinPad(default_timeout=5)


@pytest.fixture
async def cable(reader: Reader, pin_pad: PinPad) -> AsyncIterator[Cable]:
    cable = Cable(usb_reader(reader, pin_pad=pin_pad))
    await cable.client.configure()
    yield cable
    cable.host.close()
    assert not reader.hosts


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ccid_actions, "EXTENSION_PERIOD", 0.01)
    for name in ("EXCHANGE_GAP", "DEAF_AFTER", "COMES_WITHIN", "LEAVES_WITHIN"):
        monkeypatch.setattr(ccid_host, name, 0.01)
    yield


async def test_a_card_is_used(reader: Reader, cable: Cable) -> None:
    card = FakeCard()
    reader.insert(card)
    assert await cable.client.status() == 1
    assert await cable.client.power_on() == ATR
    assert await cable.client.transmit(SELECT) == SELECT + b"\x90\x00"
    assert await cable.client.power_on() == ATR
    assert [session.closed.is_set() for session in card.sessions] == [True, False]
    await cable.client.command(0x63)
    assert card.sessions[1].closed.is_set()
    assert await cable.client.transmit(SELECT) == b""


async def test_a_slow_card_is_waited_for_with_time_extensions(
    reader: Reader, cable: Cable, quick: None
) -> None:
    go = asyncio.Event()

    async def slowly(command: bytes) -> bytes:
        await go.wait()
        return b"\x90\x00"

    reader.insert(FakeCard(slowly))
    await cable.client.power_on()
    await cable.carry(1, False, 15, bytes.fromhex("6F05000000000700000000A4040000"), b"")
    for _ in range(3):
        extension = await cable.carry(1, True, 65556, b"", b"")
        assert extension == bytes.fromhex("80" "00000000" "00" "07" "80" "01" "00")
    go.set()
    while (answer := await cable.carry(1, True, 65556, b"", b"")) is not None:
        if answer[7] == 0:
            break
    assert answer == bytes.fromhex("80" "02000000" "00" "07" "00" "00" "00" "9000")


async def test_the_slot_is_answered_for_while_another_one_waits() -> None:
    first, second = Reader("first"), Reader("second")
    never = asyncio.Event()

    async def forever(command: bytes) -> bytes:
        await never.wait()
        return b"\x90\x00"

    cable = Cable(usb_reader(first, second))
    await cable.client.configure()
    first.insert(FakeCard(forever))
    second.insert(FakeCard())
    await cable.client.power_on(0)
    await cable.client.power_on(1)
    await cable.carry(1, False, 11, bytes.fromhex("6F0100000000070000000000"[:22]), b"")
    assert await cable.client.transmit(SELECT, slot=1) == SELECT + b"\x90\x00"
    await asyncio.sleep(0.01)
    cable.host.close()
    assert not first.hosts | second.hosts


@pytest.mark.parametrize("waits", [False, True])
async def test_removal_in_the_middle_of_a_command(
    reader: Reader, cable: Cable, waits: bool
) -> None:
    never = asyncio.Event()

    async def forever(command: bytes) -> bytes:
        await never.wait()
        return b""

    reader.insert(FakeCard(forever))
    await cable.client.power_on()
    pending = asyncio.ensure_future(cable.client.transmit(SELECT))
    told = asyncio.ensure_future(cable.client.interrupt())
    await asyncio.sleep(0.01 if waits else 0)
    assert await told == b"\x50\x03"
    told = asyncio.ensure_future(cable.client.interrupt())
    await asyncio.sleep(0)
    reader.remove()
    assert await pending == b""
    assert await told == b"\x50\x02"


async def test_insert_and_remove_are_noticed(reader: Reader, cable: Cable) -> None:
    assert await cable.client.status() == 2
    told = asyncio.ensure_future(cable.client.interrupt())
    await asyncio.sleep(0)
    generation = reader.insert(FakeCard())
    assert await told == b"\x50\x03"
    assert not await reader.wait_seen(generation, 0)
    await cable.client.status()
    assert await reader.wait_seen(generation, 0)
    generation = reader.remove()
    assert not await reader.wait_seen(generation, 0)
    assert await cable.client.interrupt() == b"\x50\x02"
    assert await reader.wait_seen(generation, 0)


async def test_an_exchange_is_seen_even_when_it_is_quick(reader: Reader, cable: Cable) -> None:
    reader.insert(FakeCard())
    assert await cable.client.interrupt() == b"\x50\x03"
    reader.remove()
    reader.insert(FakeCard())
    assert await cable.client.interrupt() == b"\x50\x02"
    assert await cable.client.interrupt() == b"\x50\x03"
    assert await cable.client.status() == 1


async def test_the_slot_is_seen_empty_before_it_goes(reader: Reader, cable: Cable) -> None:
    reader.insert(FakeCard())
    assert await cable.client.interrupt() == b"\x50\x03"
    await cable.client.power_on()
    told = asyncio.ensure_future(cable.client.interrupt())
    await asyncio.sleep(0)
    leaving = asyncio.ensure_future(cable.host.leave())
    assert await told == b"\x50\x02"
    told = asyncio.ensure_future(cable.client.interrupt())
    await asyncio.sleep(0.05)
    assert not leaving.done()
    # Another card is none for a host that is on its way out.
    reader.remove()
    reader.insert(FakeCard())
    assert await cable.client.status() == 2
    await asyncio.gather(leaving, cable.host.leave())
    assert await cable.client.transmit(SELECT) == b""
    assert not told.done()
    told.cancel()


async def test_each_slot_is_asked_before_all_go(pin_pad: PinPad) -> None:
    readers = [Reader("one"), Reader("two"), Reader("three")]
    cable = Cable(usb_reader(*readers, pin_pad=pin_pad))
    await cable.client.configure()
    for slot, reader in enumerate(readers[:2]):
        reader.insert(FakeCard())
        assert await cable.client.status(slot) == 1
    assert await cable.client.interrupt() == b"\x50\x0f"
    leaving = asyncio.ensure_future(cable.host.leave())
    assert await cable.client.interrupt() == b"\x50\x0a"
    told = asyncio.ensure_future(cable.client.interrupt())
    assert await cable.client.status(0) == 2
    await asyncio.sleep(0.05)
    assert not leaving.done()
    for _ in range(3):
        assert await cable.client.status(1) == 2
        await asyncio.sleep(0.15)
        assert not leaving.done()
    await leaving
    told.cancel()
    cable.host.close()


async def test_a_host_that_knows_of_no_card_goes_at_once(reader: Reader, cable: Cable) -> None:
    assert await cable.client.status() == 2
    with pytest.raises(StopIteration):
        cable.host.leave().send(None)


async def test_one_that_was_not_told_of_the_removal_yet_is(reader: Reader, cable: Cable) -> None:
    reader.insert(FakeCard())
    assert await cable.client.status() == 1
    reader.remove()
    leaving = asyncio.ensure_future(cable.host.leave())
    assert await cable.client.interrupt() == b"\x50\x02"
    assert not leaving.done()
    leaving.cancel()


async def test_one_that_does_not_look_is_waited_for_in_vain(
    reader: Reader, cable: Cable, quick: None
) -> None:
    reader.insert(FakeCard())
    assert await cable.client.status() == 1
    await cable.host.leave()


async def test_one_that_goes_by_itself_is_not_waited_for(reader: Reader, cable: Cable) -> None:
    reader.insert(FakeCard())
    assert await cable.client.status() == 1
    leaving = asyncio.ensure_future(cable.host.leave())
    await asyncio.sleep(0)
    cable.host.close()
    await leaving


async def test_a_host_that_does_not_look_holds_nobody_up(
    reader: Reader, cable: Cable, quick: None
) -> None:
    assert await reader.wait_seen(reader.insert(FakeCard()), 5)
    await cable.client.status()
    reader.remove()
    assert await reader.wait_seen(reader.insert(FakeCard()), 5)
    assert await cable.client.interrupt() == b"\x50\x03"


async def test_nor_does_one_that_comes_to_a_card_and_does_not_look(
    reader: Reader, quick: None
) -> None:
    generation = reader.insert(FakeCard())
    cable = Cable(usb_reader(reader))
    assert not await reader.wait_seen(generation, 0)
    assert await reader.wait_seen(generation, 5)
    cable.host.close()


async def test_one_that_has_just_come_is_given_its_time(
    reader: Reader, cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccid_host, "DEAF_AFTER", 0.0)
    assert not await reader.wait_seen(reader.insert(FakeCard()), 0.05)
    await cable.client.status()
    assert await reader.wait_seen(reader.generation, 0)


async def test_a_reader_that_holds_a_card_when_the_host_comes(reader: Reader) -> None:
    reader.insert(FakeCard())
    cable = Cable(usb_reader(reader))
    await cable.client.configure()
    assert not await reader.wait_seen(reader.generation, 0)
    assert await cable.client.interrupt() == b"\x50\x03"
    assert await cable.client.power_on() == ATR
    assert await reader.wait_seen(reader.generation, 0)
    cable.host.close()


class BrokenCard(Card):
    """Raises what it is made with at power-on."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def atr(self) -> bytes:
        return ATR

    def info(self) -> CardInfo:
        return CardInfo(kind="broken", serial="", label="")

    async def connect(self) -> Session:
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [(CardBusy("another host"), 0xFE), (KeyOperationError("no"), 0xFB), (ValueError("bug"), 0xFB)],
)
async def test_a_card_that_does_not_power_on(
    reader: Reader, cable: Cable, error: Exception, expected: int
) -> None:
    reader.insert(BrokenCard(error))
    answer = await cable.client.command(0x62)
    assert (answer[7], answer[8]) == (0x41, expected)


async def test_a_card_that_breaks_at_once(reader: Reader, cable: Cable) -> None:
    def fail(command: bytes) -> bytes:
        raise ValueError("a bug in an applet")

    reader.insert(FakeCard(fail))
    await cable.client.power_on()
    answer = await cable.client.command(0x6F, SELECT)
    assert (answer[7], answer[8]) == (0x41, 0xFB)
    assert await cable.client.power_on() == ATR


async def test_a_card_that_breaks(reader: Reader, cable: Cable) -> None:
    async def fail(command: bytes) -> bytes:
        raise KeyOperationError("the token said no")

    card = FakeCard(fail)
    reader.insert(card)
    await cable.client.power_on()
    answer = await cable.client.command(0x6F, SELECT)
    assert (answer[7], answer[8]) == (0x41, 0xFB)
    assert card.sessions[0].closed.is_set()


async def test_a_pin_is_typed(reader: Reader, cable: Cable, pin_pad: PinPad) -> None:
    commands = []

    def answer(command: bytes) -> bytes:
        commands.append(command)
        return b"\x90\x00"

    reader.insert(FakeCard(answer))
    await cable.client.power_on()
    asked = asyncio.ensure_future(cable.client.command(0x69, VERIFY))
    entry = await pin_pad.wait_asked(5)
    assert entry.host == "vhci test"
    for wrong in (["123"], ["123456789"], ["12345x"], ["1234", "1234"]):
        with pytest.raises(ReaderError):
            pin_pad.first().enter(wrong)
    pin_pad.first().enter(["123456"])
    assert pin_pad.entry is None, "it is answered, whoever asks next"
    assert (await asked)[7:] == bytes.fromhex("00" "00" "00" "9000")
    assert commands == [bytes.fromhex("00200000" "08" "313233343536FFFF")]


async def test_a_slot_without_a_pad_beside_one_that_has_it(reader: Reader, pin_pad: PinPad) -> None:
    second = Reader("second")
    cable = Cable(usb_reader(reader, second, pin_pad=pin_pad))
    await cable.client.configure()
    for slot, each in enumerate((reader, second)):
        each.insert(FakeCard())
        await cable.client.power_on(slot)
    assert (await cable.client.command(0x69, VERIFY, slot=1))[7:9] == bytes.fromhex("40" "00")
    assert await cable.client.transmit(SELECT, slot=1) == SELECT + b"\x90\x00"
    asked = asyncio.ensure_future(cable.client.command(0x69, VERIFY))
    await pin_pad.wait_asked(5)
    pin_pad.first().enter(["123456"])
    assert (await asked)[-2:] == b"\x90\x00"
    cable.host.close()


@pytest.mark.parametrize(("way", "error"), [("cancel", 0xEF), ("time_out", 0xF0)])
async def test_a_pin_is_not_typed(
    reader: Reader, cable: Cable, pin_pad: PinPad, way: str, error: int
) -> None:
    reader.insert(FakeCard())
    await cable.client.power_on()
    asked = asyncio.ensure_future(cable.client.command(0x69, MODIFY))
    entry = await pin_pad.wait_asked(5)
    assert entry.request.prompts == ("current", "new", "confirm")
    getattr(pin_pad.first(), way)()
    answer = await asked
    assert (answer[7], answer[8]) == (0x40, error)


async def test_an_entry_ends_with_its_card(reader: Reader, cable: Cable, pin_pad: PinPad) -> None:
    reader.insert(FakeCard())
    await cable.client.power_on()
    asked = asyncio.ensure_future(cable.client.command(0x69, VERIFY))
    await pin_pad.wait_asked(5)
    reader.remove()
    assert (await asked)[7:9] == bytes.fromhex("42" "FE")
    await asyncio.sleep(0)
    with pytest.raises(ReaderError):
        pin_pad.first().enter(["123456"])


async def test_nobody_types_and_nobody_asks(reader: Reader) -> None:
    pin_pad = PinPad(default_timeout=0.01)
    cable = Cable(usb_reader(reader, pin_pad=pin_pad))
    await cable.client.configure()
    reader.insert(FakeCard())
    await cable.client.power_on()
    answer = await cable.client.command(0x69, MODIFY)
    assert (answer[7], answer[8]) == (0x40, 0xF0)
    with pytest.raises(ReaderError, match="no host asks"):
        pin_pad.first()
    with pytest.raises(ReaderError, match="no host asks"):
        await pin_pad.wait_asked(0)
    cable.host.close()


async def test_unplugging_ends_everything(reader: Reader) -> None:
    never = asyncio.Event()

    async def forever(command: bytes) -> bytes:
        await never.wait()
        return b""

    card = FakeCard(forever)
    reader.insert(card)
    cable = Cable(usb_reader(reader))
    await cable.client.configure()
    await cable.client.power_on()
    pending = asyncio.ensure_future(cable.client.transmit(SELECT))
    await asyncio.sleep(0.01)
    cable.host.close()
    assert card.sessions[0].closed.is_set()
    await asyncio.sleep(0.01)
    pending.cancel()
