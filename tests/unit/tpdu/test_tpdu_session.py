# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session at a reader that hands on TPDUs: PPS, then T=0 or T=1 as card and host have it."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.fakes import ATR, Answer, FakeSession
from tests.unit.tpdu.t1_host import lrc_block
from vccid.errors import CardMute, CardRemoved
from vccid.iso7816 import status
from vccid.iso7816.atr import T1_ATR
from vccid.tpdu.tpdu_session import TpduSession

#: T=0 first, T=1 too, IFSC 32 and CRC for the latter.
BOTH_ATR = bytes.fromhex("3B" "80" "80" "51" "20" "01" "70")  # fmt: skip
#: Specific mode: TA2 says T=1 although T=0 is offered first.
SPECIFIC_ATR = bytes.fromhex("3B" "80" "90" "11" "01" "00")  # fmt: skip

SELECT = bytes.fromhex("00A4040000")
OK = status.SUCCESS


class Clock:
    """A patience that ends when the test says so."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def patience(self) -> None:
        await self.over.wait()
        self.over.clear()


def session_of(atr: bytes, answer: Answer, clock: Clock | None = None) -> TpduSession:
    return TpduSession(FakeSession(atr, answer), (clock or Clock()).patience)


def execute(session: TpduSession, tpdu: bytes) -> bytes:
    answer = session.execute(tpdu)
    assert isinstance(answer, bytes)
    return answer


def select_ok(command: bytes) -> bytes:
    assert command == SELECT
    return OK


async def test_a_t0_card_takes_commands() -> None:
    assert execute(session_of(ATR, select_ok), SELECT) == OK


async def test_a_t1_card_takes_blocks() -> None:
    assert execute(session_of(T1_ATR, select_ok), lrc_block(0, SELECT)) == lrc_block(0, OK)


async def test_pps_is_confirmed_and_chooses_the_protocol() -> None:
    session = session_of(BOTH_ATR, select_ok)
    assert execute(session, bytes.fromhex("FF01FE")) == bytes.fromhex("FF01FE")
    # S(IFS request), with a CRC.
    assert execute(session, bytes.fromhex("00C101FE544E")) == bytes.fromhex("00E101FE5775")


async def test_without_pps_the_first_protocol_holds() -> None:
    assert execute(session_of(BOTH_ATR, select_ok), SELECT) == OK
    specific = session_of(SPECIFIC_ATR, select_ok)
    assert execute(specific, lrc_block(0, SELECT)) == lrc_block(0, OK)


@pytest.mark.parametrize(("atr", "pps"), [(ATR, "FF01FE"), (T1_ATR, "FF00FF"), (ATR, "FF0FF0")])
async def test_pps_for_a_protocol_the_card_has_not_is_not_answered(atr: bytes, pps: str) -> None:
    with pytest.raises(CardMute):
        session_of(atr, select_ok).execute(bytes.fromhex(pps))


async def test_in_specific_mode_and_after_a_command_there_is_no_pps() -> None:
    specific = session_of(SPECIFIC_ATR, select_ok)
    assert execute(specific, bytes.fromhex("FF01FE")) == lrc_block(0x81)
    later = session_of(
        ATR, lambda command: status.CLASS_NOT_SUPPORTED if command[0] == 0xFF else OK
    )
    execute(later, SELECT)
    assert execute(later, bytes.fromhex("FF1018F7")) == status.CLASS_NOT_SUPPORTED


async def test_a_command_of_class_ff_is_no_pps() -> None:
    session = session_of(ATR, lambda command: status.CLASS_NOT_SUPPORTED)
    assert execute(session, bytes.fromhex("FFCA000000")) == status.CLASS_NOT_SUPPORTED


async def test_a_t1_card_that_works_long_asks_for_time() -> None:
    clock, go = Clock(), asyncio.Event()

    async def slowly() -> bytes:
        await go.wait()
        return OK

    session = session_of(T1_ATR, lambda command: slowly(), clock)
    wtx, granted = lrc_block(0xC3, b"\x01"), lrc_block(0xE3, b"\x01")
    clock.over.set()
    assert await session.transmit(lrc_block(0, SELECT)) == wtx
    clock.over.set()
    assert await session.transmit(granted) == wtx
    # A block in between is no answer to it, and the card works on.
    assert await session.transmit(lrc_block(0x80)) == wtx
    go.set()
    assert await session.transmit(granted) == lrc_block(0, OK)


async def test_resynch_waits_for_the_card_to_end() -> None:
    clock, go, ended = Clock(), asyncio.Event(), []

    async def slowly() -> bytes:
        await go.wait()
        ended.append(True)
        return OK

    session = session_of(T1_ATR, lambda command: slowly(), clock)
    clock.over.set()
    await session.transmit(lrc_block(0, SELECT))
    resynch = session.execute(lrc_block(0xC0))
    assert not isinstance(resynch, bytes)
    asyncio.get_running_loop().call_soon(go.set)
    assert await resynch == lrc_block(0xE0)
    assert ended


async def test_a_card_that_leaves_while_time_is_asked_for() -> None:
    clock, never = Clock(), asyncio.Event()

    async def forever() -> bytes:
        await never.wait()
        return OK

    under = FakeSession(T1_ATR, lambda command: forever())
    session = TpduSession(under, clock.patience)
    clock.over.set()
    await session.transmit(lrc_block(0, SELECT))
    under.close()
    with pytest.raises(CardRemoved):
        await session.transmit(lrc_block(0xE3, b"\x01"))
    session.close()


async def test_closing_ends_what_runs() -> None:
    clock, never = Clock(), asyncio.Event()

    async def forever() -> bytes:
        await never.wait()
        return OK

    session = session_of(T1_ATR, lambda command: forever(), clock)
    clock.over.set()
    await session.transmit(lrc_block(0, SELECT))
    session.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    _, running = await asyncio.wait(others, timeout=5)
    assert not running
