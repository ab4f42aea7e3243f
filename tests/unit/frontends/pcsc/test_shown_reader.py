# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card shared by programs: its power, its failures, and programs that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.peers.plain_card import COUNT, SELECT, WAIT, PlainCard
from vccid.card.card import Session
from vccid.errors import CardBusy, CardRemoved, KeyOperationError
from vccid.frontends.pcsc import shared_card
from vccid.frontends.pcsc.machines import Power
from vccid.frontends.pcsc.program import Program
from vccid.frontends.pcsc.registry import Registry
from vccid.frontends.pcsc.shown_reader import ShownReader
from vccid.reader import Event, Reader
from vccid.wire.pcsclite import Connect, Disconnect, Establish, Query, Rv, Transmit, Version

NAME = b"vccid vccid0 00 00"


class Desk:
    """One reader at a door, and programs that are asked in turn."""

    def __init__(self, card: PlainCard | None = None) -> None:
        self.events: list[Event] = []
        self.reader = Reader("vccid0", self.events.append)
        if card is not None:
            self.reader.insert(card)
        self.registry = Registry()
        self.shown: ShownReader = self.registry.add(self.reader, "serial", None)

    def program(self) -> Talker:
        return Talker(self.registry)


class Talker:
    """A program with a context."""

    def __init__(self, registry: Registry) -> None:
        self.sent: list[bytes] = []
        self.program = Program(registry, self.sent.append)
        self.program.received(Version(4, 4, 0))
        establish = Establish(0, 0, 0)
        self.program.received(establish)
        self.context = establish.context
        self.handle = 0

    async def connect(self) -> int:
        """rv."""
        connect = Connect(self.context, NAME.ljust(128, b"\0"), 2, 3, 0, 0, 0)
        self.program.received(connect)
        await until(lambda: not self.program.busy)
        self.handle = connect.handle
        return connect.rv

    async def transmit(self, command: bytes) -> tuple[int, bytes]:
        """rv, and the answer as it was sent."""
        self.sent.clear()
        self.program.transmit(Transmit(self.handle, 1, 16, len(command), 3, 16, 258, 0, command))
        await until(lambda: bool(self.sent))
        answer = self.sent[0]
        return int.from_bytes(answer[28:32], "little"), answer[32:]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


class FailingCard(PlainCard):
    """Raises what it is told to."""

    error: Exception | None = None

    async def connect(self) -> Session:
        if self.error is not None:
            raise self.error
        return await super().connect()


async def test_an_unused_card_loses_its_power_and_looks_the_same() -> None:
    desk = Desk(PlainCard())
    desk.shown.card.grace = 0.0
    program = desk.program()
    assert await program.connect() == Rv.SUCCESS
    assert (await program.transmit(SELECT))[0] == Rv.SUCCESS
    assert desk.shown.slot.power is Power.ON
    program.program.received(Disconnect(program.handle, 0, 0))
    await until(lambda: desk.shown.slot.power is Power.RESTING)
    assert desk.shown.slot.entry().state == 0x34 and not desk.shown.slot.protocol
    assert await program.connect() == Rv.SUCCESS
    assert await program.transmit(COUNT) == (Rv.SUCCESS, b"\x00\x90\x00")


async def test_within_the_grace_time_the_next_program_finds_the_card_as_it_was_left() -> None:
    desk = Desk(PlainCard())
    program = desk.program()
    await program.connect()
    await program.transmit(SELECT)
    program.program.received(Disconnect(program.handle, 0, 0))
    assert await program.connect() == Rv.SUCCESS
    assert await program.transmit(COUNT) == (Rv.SUCCESS, b"\x01\x90\x00")


@pytest.mark.parametrize(
    ("error", "rv"),
    [
        (CardBusy("a guest has it"), Rv.E_SHARING_VIOLATION),
        (CardRemoved("gone"), Rv.E_NO_SMARTCARD),
        (KeyOperationError("it fails"), Rv.W_UNPOWERED_CARD),
    ],
)
async def test_a_card_that_cannot_be_powered(error: Exception, rv: Rv) -> None:
    card = FailingCard()
    card.error = error
    desk = Desk(card)
    program = desk.program()
    assert await program.connect() == rv
    assert not desk.shown.slot.handles
    card.error = None
    assert await program.connect() == Rv.SUCCESS


async def test_a_card_that_fails_at_an_apdu_fails_that_one() -> None:
    card = PlainCard()
    desk = Desk(card)
    program = desk.program()
    await program.connect()
    task = asyncio.ensure_future(program.transmit(WAIT))
    await until(lambda: any(session.waiting for session in card.sessions))
    (session,) = card.sessions
    waiting, session._waiting = session._waiting, None
    assert waiting is not None
    waiting.set_exception(KeyOperationError("no"))
    assert await task == (Rv.E_NOT_TRANSACTED, b"")
    assert (await program.transmit(SELECT))[0] == Rv.SUCCESS


async def test_a_session_that_ended_by_itself_looks_like_a_card_pulled_and_put_back() -> None:
    card = PlainCard()
    desk = Desk(card)
    program = desk.program()
    await program.connect()
    counter = desk.shown.slot.entry().counter
    for session in tuple(card.sessions):
        session.close()  # as an owner elsewhere would have it
    assert (await program.transmit(SELECT))[0] == Rv.E_NO_SMARTCARD
    assert desk.shown.slot.entry().counter == counter + 2
    assert (await program.transmit(SELECT))[0] == Rv.W_REMOVED_CARD


async def test_an_apdu_without_end_of_a_program_that_is_gone_ends_with_a_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_card, "ABANDONED", 0.0)
    card = PlainCard()
    desk = Desk(card)
    gone, other = desk.program(), desk.program()
    await gone.connect()
    await other.connect()
    gone.program.transmit(Transmit(gone.handle, 1, 16, 4, 3, 16, 258, 0, WAIT))
    await asyncio.sleep(0)
    assert any(session.waiting for session in card.sessions)
    gone.program.closed()
    assert (await other.transmit(SELECT))[0] == Rv.W_RESET_CARD


async def test_a_host_is_known_by_its_reader_and_has_seen_what_came() -> None:
    desk = Desk()
    program = desk.program()
    generation = desk.reader.insert(PlainCard())
    assert await desk.reader.wait_seen(generation, 0.0)
    await program.connect()
    await program.transmit(SELECT)
    (host,) = desk.reader.hosts
    assert (host.kind, host.commands) == ("pcsc", 1)
    desk.registry.close()
    assert not desk.reader.hosts


async def test_more_readers_than_a_library_of_old_can_see() -> None:
    desk = Desk()
    for number in range(1, 70):
        desk.registry.add(Reader(f"r{number}"), "", None)
    program = desk.program()
    program.sent.clear()
    for query in (Query.READERS_STATE, Query.STATES_SIZE, Query.STATES_ARRAY):
        program.program.received(query)
    old, size, new = program.sent
    assert (len(old), size, len(new)) == (16 * 184, (64).to_bytes(4, "little"), 64 * 184)
    assert new[63 * 184 :].startswith(b"vccid r63 3F 00\0")
    desk.registry.remove(desk.shown)
    program.program.received(Query.READERS_STATE)
    assert program.sent[-1][0] == 0, "a place of its own is free, and the others keep theirs"
    again = desk.registry.add(Reader("again"), "", None)
    assert again.slot.name == b"vccid again 00 00"


async def test_refused_ones_hear_why_and_nothing_else() -> None:
    desk = Desk(PlainCard())
    sent: list[bytes] = []
    program = Program(desk.registry, sent.append, Rv.W_SECURITY_VIOLATION)
    for request in (Version(4, 4, 0), Establish(0, 0, 0)):
        program.received(request)
        assert request.rv == Rv.W_SECURITY_VIOLATION
    for wrong in (Query.READERS_STATE, Connect(0, NAME, 2, 3, 0, 0, 0)):
        with pytest.raises(Exception, match=r"may not|no context"):
            program.received(wrong)
    assert len(sent) == 2
