# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions: two hosts with one card, and a card that leaves during a command."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.cards import PIN, T, at_once, card_with_pin, credential, in_thread, serial_of
from tests.conversations.cac import CCC, PKI0, PKI1
from vccid.card.cac.cac_card import CacCard
from vccid.card.card import Session
from vccid.card.pin import CardPin
from vccid.card.state import StateStore
from vccid.errors import CardRemoved
from vccid.iso7816 import status
from vccid.keys.base import Credential, RsaPrivateKey

VERIFY = bytes.fromhex("00 20 00 00 08") + PIN
WRONG = bytes.fromhex("00 20 00 00 08") + b"00000000"
STATUS = bytes.fromhex("00 20 00 00")
BLOCK = bytes(127) + b"\x02"
SIGN = bytes.fromhex("00 42 00 00 80") + BLOCK + b"\x00"


def select(aid: str) -> bytes:
    return bytes.fromhex(f"00 A4 04 00 07 {aid} 00")


@pytest.fixture
def held() -> list[Credential]:
    return [credential("small0", 1024), credential("small1", 1024)]


@pytest.fixture
async def card(held: list[Credential], tmp_path: Path) -> CacCard:
    return await card_with_pin(held, tmp_path)


async def test_verified_in_one_alone(card: CacCard, held: list[Credential]) -> None:
    first, second = await card.connect(), await card.connect()
    await first.transmit(select(PKI0))
    await second.transmit(select(PKI1))
    assert await first.transmit(VERIFY) == status.SUCCESS
    assert await first.transmit(STATUS) == status.SUCCESS
    assert await second.transmit(STATUS) == status.tries_left(3)
    assert await first.transmit(SIGN) == held[0].key.raw(BLOCK) + status.SUCCESS
    assert await second.transmit(SIGN) == status.SECURITY_STATUS_NOT_SATISFIED
    assert await second.transmit(VERIFY) == status.SUCCESS
    assert await second.transmit(SIGN) == held[1].key.raw(BLOCK) + status.SUCCESS


async def test_one_counter(card: CacCard) -> None:
    first, second = await card.connect(), await card.connect()
    await first.transmit(VERIFY)
    assert await second.transmit(WRONG) == status.tries_left(2)
    assert await first.transmit(STATUS) == status.SUCCESS, "verified all the same"
    assert await first.transmit(WRONG) == status.tries_left(1)
    assert await second.transmit(STATUS) == status.tries_left(1)


async def test_selection_response_and_chain_apart(card: CacCard) -> None:
    first, second = await card.connect(), await card.connect()
    await first.transmit(select(PKI0))
    assert (
        await second.transmit(bytes.fromhex("00 52 00 00 02 01 02")) == status.COMMAND_NOT_ALLOWED
    )
    await second.transmit(select(CCC))
    assert await first.transmit(bytes.fromhex("00 52 00 00 02 01 04")) == status.bytes_available(4)
    assert (
        await second.transmit(bytes.fromhex("00 C0 00 00 00")) == status.REFERENCED_DATA_NOT_FOUND
    )
    assert len(await first.transmit(bytes.fromhex("00 C0 00 00 04"))) == 6
    await first.transmit(bytes.fromhex("00 42 80 00 01 00"))
    await second.transmit(select(PKI0))
    await second.transmit(VERIFY)
    assert await second.transmit(SIGN) != status.DATA_INVALID


async def test_power_on_begins_anew(card: CacCard) -> None:
    first = await card.connect()
    await first.transmit(select(PKI0))
    await first.transmit(VERIFY)
    first.close()
    second = await card.connect()
    assert await second.transmit(STATUS) == status.tries_left(3)
    assert (
        await second.transmit(bytes.fromhex("00 52 00 00 02 01 02")) == status.COMMAND_NOT_ALLOWED
    )


async def test_many_hosts_guess_at_once(held: list[Credential], tmp_path: Path) -> None:
    """In threads, as the daemon has them: three tries are three tries, whoever has them."""
    pin = await CardPin.open(StateStore(tmp_path), serial_of(held), in_thread, PIN)
    card = CacCard(held, pin, in_thread)
    sessions = [await card.connect() for _ in range(8)]
    answers = await asyncio.gather(*(session.transmit(WRONG) for session in sessions))
    assert sorted(answers) == [
        status.tries_left(0),
        status.tries_left(1),
        status.tries_left(2),
        *[status.AUTHENTICATION_BLOCKED] * 5,
    ]
    assert await sessions[0].transmit(VERIFY) == status.AUTHENTICATION_BLOCKED


class Gate:
    """An offload that waits until it is let go."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.done = 0

    async def __call__(self, work: Callable[[], T]) -> T:
        self.reached.set()
        await self.opened.wait()
        result = work()
        self.done += 1
        return result


async def gated(held: list[Credential], tmp_path: Path, *, pin: bool) -> tuple[Session, Gate]:
    """A session that waits at its key, or at its PIN."""
    gate = Gate()
    opened = await CardPin.open(StateStore(tmp_path), serial_of(held), at_once, PIN)
    if pin:
        opened._offload = gate
    session = await CacCard(held, opened, gate).connect()
    await session.transmit(select(PKI0))
    if not pin:
        await session.transmit(VERIFY)
    return session, gate


async def waiting(session: Session, command: bytes) -> asyncio.Future[bytes]:
    answer = session.execute(command)
    assert isinstance(answer, Awaitable)
    return asyncio.ensure_future(answer)


async def test_removed_during_a_signature(held: list[Credential], tmp_path: Path) -> None:
    session, gate = await gated(held, tmp_path, pin=False)
    answer = await waiting(session, SIGN)
    await gate.reached.wait()
    session.close()
    with pytest.raises(CardRemoved):
        await answer
    with pytest.raises(CardRemoved):
        session.execute(STATUS)
    session.close()


async def test_removed_during_a_pin_check(held: list[Credential], tmp_path: Path) -> None:
    """The check itself runs on, and counts."""
    session, gate = await gated(held, tmp_path, pin=True)
    answer = await waiting(session, WRONG)
    await gate.reached.wait()
    session.close()
    with pytest.raises(CardRemoved):
        await answer
    gate.opened.set()
    while not gate.done:
        await asyncio.sleep(0)
    kept = StateStore(tmp_path).load(serial_of(held))
    assert kept is not None and kept.tries_left == 2


async def test_a_command_nobody_waits_for(held: list[Credential], tmp_path: Path) -> None:
    """A host that gives a command up (CCID's abort) can send the next."""
    session, gate = await gated(held, tmp_path, pin=False)
    answer = await waiting(session, SIGN)
    await gate.reached.wait()
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    assert await session.transmit(STATUS) == status.SUCCESS
    gate.opened.set()
    assert await session.transmit(SIGN) == held[0].key.raw(BLOCK) + status.SUCCESS


async def test_a_slow_key_holds_nobody_up(held: list[Credential], tmp_path: Path) -> None:
    """While one host's key works in its thread, another host gets its answers."""
    release = threading.Event()

    class SlowKey(RsaPrivateKey):
        size_bits = 1024

        def raw(self, block: bytes) -> bytes:
            release.wait(10)
            return held[0].key.raw(block)

    slow = Credential("slow", held[0].certificate, SlowKey(), None)
    pin = await CardPin.open(StateStore(tmp_path), serial_of([slow]), at_once, PIN)
    card = CacCard([slow], pin, in_thread)
    first, second = await card.connect(), await card.connect()
    await first.transmit(select(PKI0))
    await first.transmit(VERIFY)
    answer = await waiting(first, SIGN)
    await asyncio.sleep(0)
    assert (await second.transmit(select(PKI0)))[-2:] == status.SUCCESS
    assert await second.transmit(VERIFY) == status.SUCCESS
    assert not answer.done()
    release.set()
    assert (await answer)[-2:] == status.SUCCESS


async def test_no_secret_in_a_log_or_a_repr(
    card: CacCard, held: list[Credential], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    session = await card.connect()
    await session.transmit(VERIFY)
    StateStore(tmp_path).path(card.serial).write_bytes(b"")
    assert await session.transmit(VERIFY) == status.AUTHENTICATION_BLOCKED
    told = caplog.text + repr(session) + repr(card.pin) + repr(vars(card.pin)) + repr(vars(session))
    assert "damaged" in told and "pin reset" in told
    assert PIN.decode() not in told and PIN.hex() not in told
