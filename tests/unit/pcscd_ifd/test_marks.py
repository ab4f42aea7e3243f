# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver, and what pcscd's other threads write of a reader behind its own event thread."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.pcscd_ifd.conftest import (
    APDU,
    ATR,
    CARD_SEEN,
    COMMUNICATION_ERROR,
    CONTROL,
    DOWN,
    EMPTY_SEEN,
    LUN,
    NOT_PRESENT,
    POWER_OFF,
    PRESENT,
    RESET,
    SUCCESS,
    TRANSMIT,
    UP,
    Daemon,
    Stub,
    answer_power_on,
    card,
    finish,
    frame,
    powered,
    seen,
)


async def test_a_client_is_told_at_once_and_the_event_thread_once_it_may_be(
    stub: Stub, daemon: Daemon
) -> None:
    """What a power call leaves behind is written before the event thread sees the card leave."""
    events, commands = await powered(stub, daemon)
    for generation in (2, 4):
        await stub.begin("&power", LUN, DOWN)
        assert await commands.receive(6) == frame(POWER_OFF)
        events.send(card(generation, b""))
        commands.send(frame(POWER_OFF))
        assert await stub.late() == SUCCESS
        while await stub.call("presence", LUN) != NOT_PRESENT:
            pass
        assert (await stub.call("power", LUN, UP)).startswith(f"{NOT_PRESENT} ")
        assert await stub.event() == EMPTY_SEEN
        assert await events.receive(14) == seen(generation)
        events.send(card(generation + 1))
        await answer_power_on(commands)
        assert await stub.event() == CARD_SEEN
        assert await events.receive(14) == seen(generation + 1)
    await finish(stub)


@pytest.mark.parametrize("action", [UP, DOWN, RESET])
async def test_a_power_call_at_a_reader_seen_empty_makes_pcscd_start_over(
    stub: Stub, daemon: Daemon, action: int
) -> None:
    """pcscd marks the reader as one with a mute card, and would not look at it again."""
    events, commands = await powered(stub, daemon)
    events.send(card(2, b""))
    assert await stub.event() == EMPTY_SEEN
    assert await events.receive(14) == seen(2)
    assert (await stub.call("power", LUN, action)).split()[0] == NOT_PRESENT
    assert await stub.event() == "0 unknown"
    events.send(card(3))
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    assert await events.receive(14) == seen(3)
    await finish(stub)


async def test_an_unpowered_card_is_not_asked_and_stays(stub: Stub, daemon: Daemon) -> None:
    events, commands = await powered(stub, daemon)
    await stub.begin("&power", LUN, DOWN)
    assert await commands.receive(6) == frame(POWER_OFF)
    commands.send(frame(POWER_OFF))
    assert await stub.late() == SUCCESS
    assert await stub.call("transmit", LUN, APDU.hex(), 258) == f"{COMMUNICATION_ERROR} 0"
    assert await stub.call("presence", LUN) == PRESENT
    await stub.begin("&power", LUN, UP)
    await answer_power_on(commands)
    assert await stub.late() == f"0 {len(ATR)} {ATR.hex()}"
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    assert await commands.receive(19) == frame(TRANSMIT, APDU)
    commands.send(frame(TRANSMIT, b"\x90\x00"))
    assert await stub.late() == "0 2 9000"
    events.send(card(2, b""))
    assert await stub.event() == EMPTY_SEEN  # and nothing before it
    await finish(stub)


async def test_clients_that_keep_looking_do_not_keep_a_card_away(
    stub: Stub, daemon: Daemon
) -> None:
    events, commands = await powered(stub, daemon)
    events.send(card(2, b""))
    assert await stub.event() == EMPTY_SEEN

    async def look() -> None:
        while await stub.call("presence", LUN) == NOT_PRESENT:
            pass

    looking = asyncio.create_task(look())
    events.send(card(3))
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    await looking
    await finish(stub)


async def test_a_thread_is_a_second_late_with_the_end_of_the_link(
    stub: Stub, daemon: Daemon
) -> None:
    """Meanwhile there is another link, with a card in its reader."""
    _, commands = await powered(stub, daemon)
    assert await stub.call("late", 1000) == SUCCESS
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    commands.close()
    events, commands = await daemon.link()
    events.send(card(1))
    assert await stub.late() == f"{NOT_PRESENT} 0"
    assert await stub.event() == EMPTY_SEEN
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    assert await stub.call("late", 0) == SUCCESS
    assert await stub.call("presence", LUN) == PRESENT
    await finish(stub)


async def test_what_was_seen_by_one_link_is_not_told_by_the_next(
    stub: Stub, daemon: Daemon
) -> None:
    """Generations start anew with each daemon."""
    events, _ = await powered(stub, daemon)
    assert await stub.call("late", 1000) == SUCCESS
    events.send(card(9, b""))
    assert await stub.event() == EMPTY_SEEN
    events.close()
    events, commands = await daemon.link()
    events.send(card(1, b""))
    assert await events.receive(14) == seen(1)
    events.send(card(2))
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    assert await events.receive(14) == seen(2)
    await finish(stub)


async def test_commands_while_the_link_comes_up(stub: Stub, daemon: Daemon) -> None:
    """For the thread sanitizer: no event comes first, which would order the two threads."""

    async def ask_until_answered() -> None:
        while (told := await stub.call("control", LUN, "0x42330006", "01", 256)) != "0 2 9000":
            assert told == f"{NOT_PRESENT} 0"

    assert await stub.call("open", LUN, daemon.path) == SUCCESS
    for _ in range(3):
        asking = asyncio.create_task(ask_until_answered())
        events, commands = await daemon.link()
        assert await commands.receive(11) == frame(CONTROL, b"\x42\x33\x00\x06\x01")
        commands.send(frame(CONTROL, b"\x90\x00"))
        await asking
        events.close()
    assert await stub.call("close", LUN) == SUCCESS
