# SPDX-License-Identifier: LGPL-2.1-or-later
"""The slot: presence, generations, hosts and sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from vccid.card.card import Card, CardInfo, Session
from vccid.errors import CardRemoved, ReaderError
from vccid.reader import Event, Host, Reader


class EchoSession(Session):
    closed = False

    @property
    def atr(self) -> bytes:
        return b"\x3b\x00"

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        return command

    def close(self) -> None:
        self.closed = True


class EchoCard(Card):
    closed = False

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def atr(self) -> bytes:
        return b"\x3b\x00"

    def info(self) -> CardInfo:
        return CardInfo("cac", "00ff", "echo")

    async def connect(self) -> Session:
        await self.gate.wait()
        return EchoSession()

    def close(self) -> None:
        self.closed = True


class Watcher(Host):
    kind = "test"
    peer = "watcher"
    seen = 0

    def __init__(self) -> None:
        self.told = 0

    def card_changed(self) -> None:
        self.told += 1


async def test_insert_and_remove_are_generations_told_to_every_host() -> None:
    events: list[Event] = []
    reader = Reader("vccid0", events.append)
    hosts = [Watcher(), Watcher()]
    for host in hosts:
        reader.attach(host)
    card = EchoCard()
    assert reader.insert(card) == 1
    assert reader.remove() == 2
    assert [host.told for host in hosts] == [2, 2]
    assert card.closed
    assert [event.kind for event in events] == [
        "host-attached",
        "host-attached",
        "card-inserted",
        "card-removed",
    ]


async def test_a_full_reader_keeps_its_card_and_an_empty_one_says_so() -> None:
    reader = Reader("vccid0")
    first = EchoCard()
    reader.insert(first)
    with pytest.raises(ReaderError, match="already holds a card"):
        reader.insert(EchoCard())
    assert reader.card is first
    reader.remove()
    with pytest.raises(ReaderError, match="holds no card"):
        reader.remove()


async def test_removal_ends_every_session() -> None:
    reader = Reader("vccid0")
    reader.insert(EchoCard())
    sessions = [await reader.power_on(), await reader.power_on()]
    reader.remove()
    assert all(isinstance(s, EchoSession) and s.closed for s in sessions)
    with pytest.raises(CardRemoved):
        await reader.power_on()


async def test_a_card_that_leaves_while_powering_on_gives_no_session() -> None:
    reader = Reader("vccid0")
    card = EchoCard()
    card.gate.clear()
    reader.insert(card)
    powering = asyncio.create_task(reader.power_on())
    await asyncio.sleep(0)
    reader.remove()
    reader.insert(EchoCard())
    card.gate.set()
    with pytest.raises(CardRemoved):
        await powering


async def test_power_off_ends_only_its_own_session() -> None:
    reader = Reader("vccid0")
    reader.insert(EchoCard())
    one, other = await reader.power_on(), await reader.power_on()
    reader.power_off(one)
    reader.power_off(one)
    assert isinstance(one, EchoSession) and one.closed
    assert isinstance(other, EchoSession) and not other.closed


async def test_waiting_ends_when_every_attached_host_has_seen_it() -> None:
    reader = Reader("vccid0")
    one, other = Watcher(), Watcher()
    reader.attach(one)
    reader.attach(other)
    generation = reader.insert(EchoCard())
    assert not await reader.wait_seen(generation, 0)
    waiting = asyncio.create_task(reader.wait_seen(generation, None))
    reader.acknowledge(one, generation)
    await asyncio.sleep(0)
    assert not waiting.done()
    reader.detach(other)
    assert await waiting


async def test_waiting_with_no_host_ends_at_once() -> None:
    reader = Reader("vccid0")
    assert await reader.wait_seen(reader.insert(EchoCard()), 0)


async def test_an_old_acknowledgement_changes_nothing() -> None:
    events: list[Event] = []
    reader = Reader("vccid0", events.append)
    host = Watcher()
    reader.attach(host)
    reader.acknowledge(host, 3)
    reader.acknowledge(host, 2)
    assert host.seen == 3
    assert [event.kind for event in events].count("host-saw") == 1
