# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session without a card application behind it: bytes in, and its end."""

from __future__ import annotations

import asyncio

import pytest

from vccid.card.processors import Answer
from vccid.card.session import CardSession, Lifetime
from vccid.errors import CardRemoved
from vccid.iso7816 import status
from vccid.iso7816.apdu import Command

ATR = bytes.fromhex("3B 00")


async def test_what_is_no_command_reaches_no_processor() -> None:
    asked: list[Command] = []

    def row(command: Command) -> Answer:
        asked.append(command)
        return status.SUCCESS

    session = CardSession(ATR, row, Lifetime())
    for raw in (b"", b"\x00", b"\x00\xa4\x04", bytes.fromhex("00 A4 04 00 05 01")):
        assert session.execute(raw) == status.WRONG_LENGTH
    assert not asked
    assert await session.transmit(bytes.fromhex("00 A4 04 00 01 A0")) == status.SUCCESS
    assert asked == [Command(0x00, 0xA4, 0x04, 0x00, b"\xa0", 0)]


async def test_nothing_is_waited_for_beyond_the_end() -> None:
    lifetime = Lifetime()
    never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    session = CardSession(ATR, lambda command: lifetime.wait_for(never), lifetime)
    answer = asyncio.ensure_future(session.transmit(bytes.fromhex("00 42 00 00")))
    await asyncio.sleep(0)
    session.close()
    session.close()
    with pytest.raises(CardRemoved):
        await answer
    assert never.cancelled()
    with pytest.raises(CardRemoved):
        session.execute(b"no command either")
