# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card's PIN: its own, or a token's."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cards import PIN, MemoryToken, T, at_once, in_thread
from vccid.card import pin as card_pin
from vccid.card.login import TokenLogin, TokenLogins
from vccid.card.pin import FACTORY_PIN, CardPin, Outcome, Pin, TokenPin, Verdict
from vccid.card.state import PinState, StateStore
from vccid.errors import KeyOperationError, StateError, TokenGone, VccidError, WrongPassword

SERIAL = "00112233445566778899aabbccdd"
WRONG = b"00000000"
RIGHT_ALWAYS = (Verdict.RIGHT, 3)


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path)


@pytest.fixture
def token() -> MemoryToken:
    return MemoryToken()


@pytest.fixture(params=["card", "token"])
async def pin(request: pytest.FixtureRequest, store: StateStore, token: MemoryToken) -> Pin:
    if request.param == "card":
        return await CardPin.open(store, SERIAL, at_once, PIN)
    return await TokenPin.open(TokenLogin(token), store, SERIAL, at_once)


async def test_right(pin: Pin) -> None:
    assert pin.tries_left == 3
    assert await pin.verify(PIN) == RIGHT_ALWAYS


async def test_tries_run_out(pin: Pin) -> None:
    for left in (2, 1, 0):
        assert await pin.verify(WRONG) == (Verdict.WRONG, left)
        assert pin.tries_left == left
    assert await pin.verify(WRONG) == (Verdict.BLOCKED, 0)
    assert await pin.verify(PIN) == (Verdict.BLOCKED, 0)
    await pin.reset()
    assert pin.tries_left == 3
    assert await pin.verify(PIN) == RIGHT_ALWAYS


async def test_a_right_one_gives_the_tries_back(pin: Pin) -> None:
    await pin.verify(WRONG)
    await pin.verify(WRONG)
    assert await pin.verify(PIN) == RIGHT_ALWAYS
    assert pin.tries_left == 3


@pytest.mark.parametrize("candidate", [b"", b"1234567", b"123456789", b"1" * 255, b"\x00" * 8])
async def test_nothing_but_the_pin(pin: Pin, candidate: bytes) -> None:
    assert await pin.verify(candidate) == (Verdict.WRONG, 2)


async def test_the_same_card_has_the_same_tries(store: StateStore, pin: Pin) -> None:
    """Two readers with the same certificates, and a card that comes back: one counter."""
    await pin.verify(WRONG)
    twin = await CardPin.open(store, SERIAL, at_once, PIN)
    assert twin.tries_left == 2
    await twin.verify(WRONG)
    assert await pin.verify(WRONG) == (Verdict.WRONG, 0)
    assert await twin.verify(PIN) == (Verdict.BLOCKED, 0)


async def test_counted_on_disk_before_it_is_looked_at(
    store: StateStore, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def look(candidate: bytes, state: PinState) -> bool:
        kept = store.load(SERIAL)
        assert kept is not None
        seen.append(kept.tries_left)
        return candidate == PIN

    monkeypatch.setattr(pin, "_matches", look)
    await pin.verify(WRONG)
    await pin.verify(PIN)
    assert seen == [2, 1]
    assert store.load(SERIAL) is not None and pin.tries_left == 3


async def test_state_cut_short_fails_closed(store: StateStore, pin: Pin) -> None:
    store.path(SERIAL).write_bytes(store.path(SERIAL).read_bytes()[:20])
    for _ in range(4):
        assert await pin.verify(PIN) == (Verdict.BLOCKED, 0)
    assert pin.fault is not None and "damaged" in pin.fault.message
    await pin.reset(PIN if pin.kind == "card" else None)
    assert pin.fault is None
    assert await pin.verify(PIN) == RIGHT_ALWAYS


async def test_state_taken_away_fails_closed(store: StateStore, pin: Pin) -> None:
    store.path(SERIAL).unlink()
    assert await pin.verify(PIN) == (Verdict.BLOCKED, 0)
    assert not store.path(SERIAL).exists()


async def test_a_card_with_unusable_state_can_still_be_made(
    store: StateStore, token: MemoryToken
) -> None:
    store.path(SERIAL).write_text('{"version": 9}')
    for pin in (
        await CardPin.open(store, SERIAL, at_once, PIN),
        await TokenPin.open(TokenLogin(token), store, SERIAL, at_once),
    ):
        assert pin.fault is not None and "version 9" in pin.fault.message
        assert pin.tries_left == 0
        assert await pin.verify(PIN) == (Verdict.BLOCKED, 0)
    assert store.path(SERIAL).read_text() == '{"version": 9}'
    assert token.asked == []


class FullDisk:
    """Makes saving fail from some save on."""

    def __init__(self, store: StateStore, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        self._save = store.save
        monkeypatch.setattr(store, "save", self.save)

    def save(self, serial: str, state: PinState) -> None:
        if self.left == 0:
            raise StateError("the disk is full")
        self.left -= 1
        self._save(serial, state)


async def test_full_disk_refuses(
    store: StateStore, pin: Pin, token: MemoryToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PIN is not looked at, and no try is given back."""
    await pin.verify(WRONG)
    asked = list(token.asked)
    with monkeypatch.context() as patch:
        FullDisk(store, patch, after=0)
        for candidate in (PIN, WRONG, PIN):
            with pytest.raises(StateError):
                await pin.verify(candidate)
    assert token.asked == asked
    assert pin.tries_left == 2
    assert await pin.verify(PIN) == RIGHT_ALWAYS


async def test_disk_full_in_between(
    store: StateStore, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The try that was counted stays counted, though the PIN was right."""
    with monkeypatch.context() as patch:
        FullDisk(store, patch, after=1)
        with pytest.raises(StateError):
            await pin.verify(PIN)
    assert pin.tries_left == 2
    kept = store.load(SERIAL)
    assert kept is not None and kept.tries_left == 2


async def test_two_at_once_are_counted_one_by_one(store: StateStore, token: MemoryToken) -> None:
    """Wrong ones and a right one together, in threads as the daemon has them."""
    pin = await TokenPin.open(TokenLogin(token), store, SERIAL, in_thread)
    twin = await TokenPin.open(pin._login, store, SERIAL, in_thread)
    outcomes = await asyncio.gather(pin.verify(WRONG), twin.verify(b"1"), pin.verify(b"2"))
    assert sorted(outcome.tries_left for outcome in outcomes) == [0, 1, 2]
    assert await twin.verify(PIN) == (Verdict.BLOCKED, 0)


async def test_nobody_waits_any_more(store: StateStore) -> None:
    """A verification whose caller is gone runs to its end before the next begins."""
    gate = asyncio.Event()
    running = 0

    async def slow(work: Callable[[], T]) -> T:
        nonlocal running
        running += 1
        assert running == 1
        await gate.wait()
        running -= 1
        return work()

    opened = await CardPin.open(store, SERIAL, at_once, PIN)
    opened._offload = slow
    first = asyncio.ensure_future(opened.verify(WRONG))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    second = asyncio.ensure_future(opened.verify(WRONG))
    await asyncio.sleep(0)
    gate.set()
    assert await second == (Verdict.WRONG, 1)
    assert first.cancelled()


async def test_change(pin: Pin, token: MemoryToken) -> None:
    assert await pin.change(WRONG, b"654321") == (Verdict.WRONG, 2)
    assert await pin.change(PIN, b"654321") == RIGHT_ALWAYS
    assert await pin.verify(PIN) == (Verdict.WRONG, 2)
    assert await pin.verify(b"654321") == RIGHT_ALWAYS
    assert token.pin == (b"654321" if pin.kind == "token" else PIN)


# A PIN of the card's own


async def test_factory_pin(store: StateStore) -> None:
    pin = await CardPin.open(store, SERIAL, at_once)
    assert pin.factory
    again = await CardPin.open(store, SERIAL, at_once, PIN)
    assert again.factory, "a card that has a PIN keeps it"
    assert await again.verify(FACTORY_PIN) == RIGHT_ALWAYS
    await again.change(FACTORY_PIN, PIN)
    assert not again.factory
    assert not (await CardPin.open(store, SERIAL, at_once)).factory


@pytest.mark.parametrize(
    "new", [b"", b"123", b"123456789", b"12\x0034", b"1234\xff", b"\xc3\xa41234"]
)
async def test_no_card_pin(store: StateStore, new: bytes) -> None:
    pin = await CardPin.open(store, SERIAL, at_once, PIN)
    with pytest.raises(ValueError):
        await pin.change(PIN, new)
    with pytest.raises(VccidError, match="4 to 8"):
        await pin.reset(new)
    with pytest.raises(VccidError, match="4 to 8"):
        await CardPin.open(store, SERIAL, at_once, new)
    assert pin.tries_left == 3


async def test_reset_with_a_new_pin(store: StateStore) -> None:
    pin = await CardPin.open(store, SERIAL, at_once, PIN)
    for _ in range(3):
        await pin.verify(WRONG)
    await pin.reset(b"87654321")
    assert await pin.verify(PIN) == (Verdict.WRONG, 2)
    assert await pin.verify(b"87654321") == RIGHT_ALWAYS


async def test_a_lost_pin_needs_a_new_one(store: StateStore) -> None:
    pin = await CardPin.open(store, SERIAL, at_once, PIN)
    store.path(SERIAL).write_bytes(b"")
    with pytest.raises(StateError) as caught:
        await pin.reset()
    assert "new PIN" in caught.value.hint


async def test_the_pin_is_not_on_disk(store: StateStore) -> None:
    await CardPin.open(store, SERIAL, at_once, PIN)
    raw = store.path(SERIAL).read_bytes()
    assert PIN not in raw and PIN.hex().encode() not in raw
    other = StateStore(store.directory / "other")
    await CardPin.open(other, SERIAL, at_once, PIN)
    assert other.path(SERIAL).read_bytes() != raw, "salted"


async def test_a_tokens_card_that_gets_a_pin_keeps_its_tries(
    store: StateStore, token: MemoryToken
) -> None:
    first = await TokenPin.open(TokenLogin(token), store, SERIAL, at_once)
    await first.verify(WRONG)
    second = await CardPin.open(store, SERIAL, at_once, b"1111")
    assert second.tries_left == 2
    assert await second.verify(b"1111") == RIGHT_ALWAYS


# A token's PIN


async def test_a_wrong_pin_reaches_the_token_once(store: StateStore, token: MemoryToken) -> None:
    pin = await TokenPin.open(TokenLogin(token), store, SERIAL, at_once)
    assert await pin.verify(WRONG) == (Verdict.WRONG, 2)
    assert await pin.verify(WRONG) == (Verdict.WRONG, 1)
    assert token.asked == [WRONG]
    await pin.reset()
    await pin.verify(WRONG)
    assert token.asked == [WRONG, WRONG], "a reset lets it through again"


async def test_logged_in_the_token_is_left_alone(store: StateStore, token: MemoryToken) -> None:
    pin = await TokenPin.open(TokenLogin(token), store, SERIAL, at_once)
    assert await pin.verify(PIN) == RIGHT_ALWAYS
    assert await pin.verify(WRONG) == (Verdict.WRONG, 2)
    assert await pin.verify(PIN) == RIGHT_ALWAYS
    assert token.asked == [PIN]


async def test_unlocked_at_insert(store: StateStore, token: MemoryToken) -> None:
    logins = TokenLogins()
    with pytest.raises(WrongPassword):
        logins.of(token).unlock(WRONG)
    with pytest.raises(WrongPassword):
        logins.of(token).unlock(WRONG)
    logins.of(token).unlock(PIN)
    assert token.asked == [WRONG, PIN]
    pin = await TokenPin.open(logins.of(token), store, SERIAL, at_once)
    assert await pin.verify(WRONG) == (Verdict.WRONG, 2)
    assert await pin.verify(PIN) == RIGHT_ALWAYS


async def test_two_cards_on_one_token(store: StateStore, token: MemoryToken) -> None:
    """What one card learnt of the token's PIN, the other knows, until the token is gone."""
    logins = TokenLogins()
    first = await TokenPin.open(logins.of(token), store, SERIAL, at_once)
    second = await TokenPin.open(logins.of(token), store, "00", at_once)
    assert await first.verify(WRONG) == (Verdict.WRONG, 2)
    assert await second.verify(WRONG) == (Verdict.WRONG, 2)
    assert await first.verify(PIN) == RIGHT_ALWAYS
    assert await second.verify(WRONG) == (Verdict.WRONG, 1)
    assert await second.verify(PIN) == RIGHT_ALWAYS
    assert token.asked == [WRONG, PIN]
    logins.of(MemoryToken())
    gc.collect()
    assert list(logins._known) == [token]


async def test_unlocked_behind_our_back(store: StateStore, token: MemoryToken) -> None:
    """Nobody can tell then, so nothing verifies, and no try is spent."""
    token.login(PIN)
    pin = await TokenPin.open(TokenLogin(token), store, SERIAL, at_once)
    with pytest.raises(KeyOperationError):
        await pin.verify(PIN)
    assert pin.tries_left == 3


async def test_logged_out_again(store: StateStore, token: MemoryToken) -> None:
    pin = await TokenPin.open(TokenLogin(token), store, SERIAL, at_once)
    await pin.verify(PIN)
    token.logout()
    token.pin = b"changed!"
    assert await pin.verify(PIN) == (Verdict.WRONG, 2)
    assert await pin.verify(b"changed!") == RIGHT_ALWAYS


async def test_token_gone_spends_no_try(store: StateStore) -> None:
    class Gone(MemoryToken):
        def login(self, pin: bytes) -> None:
            raise TokenGone("pulled")

    pin = await TokenPin.open(TokenLogin(Gone()), store, SERIAL, at_once)
    for _ in range(4):
        with pytest.raises(TokenGone):
            await pin.verify(PIN)
    assert pin.tries_left == 3
    assert store.load(SERIAL) == PinState(3)


async def test_the_tokens_pin_is_not_set_by_reset(store: StateStore, token: MemoryToken) -> None:
    pin = await TokenPin.open(TokenLogin(token), store, SERIAL, at_once)
    with pytest.raises(VccidError, match="memory"):
        await pin.reset(PIN)


async def test_a_token_that_takes_no_new_pin(store: StateStore) -> None:
    class ReadOnly(MemoryToken):
        def change_pin(self, old: bytes, new: bytes) -> None:
            raise KeyOperationError("read-only")

    pin = await TokenPin.open(TokenLogin(ReadOnly()), store, SERIAL, at_once)
    with pytest.raises(KeyOperationError):
        await pin.change(PIN, b"654321")
    assert pin.tries_left == 3
    assert await pin.verify(PIN) == RIGHT_ALWAYS


# Killed at any instant

KILLED = textwrap.dedent("""
    import asyncio, os, sys
    from pathlib import Path
    from tests.cards import MemoryToken, at_once
    from vccid.card.login import TokenLogin
    from vccid.card.pin import TokenPin
    from vccid.card.state import StateStore

    directory, serial, candidate, steps = sys.argv[1:]
    left = int(steps)

    def dying(function):
        def call(*arguments, **keywords):
            global left
            if left == 0:
                os.kill(os.getpid(), 9)
            left -= 1
            return function(*arguments, **keywords)
        return call

    async def main():
        store, login = StateStore(Path(directory)), TokenLogin(MemoryToken())
        pin = await TokenPin.open(login, store, serial, at_once)
        for name in ("open", "fchmod", "fsync", "rename", "close"):
            setattr(os, name, dying(getattr(os, name)))
        outcome = await pin.verify(bytes.fromhex(candidate))
        print(outcome.verdict.name, flush=True)

    asyncio.run(main())
""")


@pytest.mark.parametrize("candidate", [WRONG, PIN], ids=["wrong", "right"])
async def test_killed_at_each_step(store: StateStore, candidate: bytes) -> None:
    """SIGKILL before each system call in turn: no try comes back without a right PIN's answer."""
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    steps, tries, survived = 0, [], False
    while not survived:
        store.save(SERIAL, PinState(2))
        arguments = [str(store.directory), SERIAL, candidate.hex(), str(steps)]
        child = subprocess.run(
            [sys.executable, "-c", KILLED, *arguments],
            env=environment, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert child.returncode in (0, -9), child.stderr
        survived = child.returncode == 0
        kept = store.load(SERIAL)
        assert kept is not None, "never a damaged state"
        tries.append(kept.tries_left)
        steps += 1
    assert steps > 5, "each system call was reached"
    counted = tries.index(1)
    assert tries[:counted] == [2] * counted, "not yet counted, not yet looked at"
    if candidate == WRONG:
        assert set(tries[counted:]) == {1}
    else:
        given_back = tries.index(3)
        assert set(tries[counted:given_back]) == {1} and set(tries[given_back:]) == {3}


async def test_a_known_pin_costs_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PIV card wants its PIN before each signature."""
    pin = await CardPin.open(StateStore(tmp_path), "ab", at_once, PIN)
    hashed: list[bytes] = []
    real = card_pin._scrypt
    monkeypatch.setattr(
        card_pin, "_scrypt", lambda given, kept: hashed.append(given) or real(given, kept)
    )
    assert await pin.verify(PIN) == await pin.verify(PIN) == Outcome(Verdict.RIGHT, 3)
    assert await pin.verify(b"00000000") == Outcome(Verdict.WRONG, 2)
    assert hashed == [PIN]
    await pin.change(PIN, b"11111111")
    assert (await pin.verify(PIN)).verdict is Verdict.WRONG
    assert (await pin.verify(b"11111111")).verdict is Verdict.RIGHT


async def test_a_guess_has_its_price_where_there_is_something_to_guess(store: StateStore) -> None:
    """A factory PIN is known to everybody, and a new card need not wait for its hash."""
    cost = {}
    for serial, initial in (("aa", FACTORY_PIN), ("bb", b"87654321"), ("cc", None)):
        await CardPin.open(store, serial, at_once, initial)
        state = store.load(serial)
        assert state is not None and state.pin is not None
        cost[initial] = state.pin.n
    assert cost == {FACTORY_PIN: 2, b"87654321": card_pin.SCRYPT_COST, None: 2}
