# SPDX-License-Identifier: LGPL-2.1-or-later
"""The PIN a card asks for: its own, or that of the token its keys are in.

Either way the card keeps a try counter of its own on disk. A try is counted there before the
PIN is looked at, and given back only after it was right.

What gates a key is the verified flag of a session, never a token's login (`vccid.card.login`).
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import hmac
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final, Literal, NamedTuple, Self, TypeVar

from vccid.card.card import Offload
from vccid.card.login import TokenLogin
from vccid.card.pin_counter import PinCounter
from vccid.card.pin_states import State
from vccid.card.state import MAX_TRIES, PinHash, PinState, StateStore
from vccid.errors import KeyOperationError, StateError, TokenLocked, VccidError, WrongPassword

T = TypeVar("T")

#: What a new card's own PIN is where the user names none; to be announced with a warning.
FACTORY_PIN: Final = b"123456"

#: What a new PIV card's PUK is.
FACTORY_PUK: Final = b"12345678"
#: Not worth a guess.
_PUBLIC: Final = (FACTORY_PIN, FACTORY_PUK)

#: A card's own PIN: 4 to 8 characters, right-padded with FF on the wire. OpenSC's CAC
#: driver has the same limits, and pads to 8 whatever was typed.
MIN_PIN, MAX_PIN = 4, 8

#: scrypt's n: 16 MiB and some 40 ms are a guess's price, and within a small daemon's memory.
SCRYPT_COST = 1 << 14
_PUBLIC_COST: Final = 2

#: Of digests in memory: of this process's own, so one says nothing under any other.
_DIGEST_KEY: Final = os.urandom(32)

_log = logging.getLogger(__name__)


class Verdict(enum.Enum):
    """What a PIN turned out to be; BLOCKED: no tries were left, so it was not looked at."""

    RIGHT = enum.auto()
    WRONG = enum.auto()
    BLOCKED = enum.auto()


class Outcome(NamedTuple):
    """What became of a PIN.

    Attributes:
        verdict: right, wrong or blocked.
        tries_left: right after it; other sessions may have used some since.
    """

    verdict: Verdict
    tries_left: int


class Pin(ABC):
    """A card's PIN, shared by all sessions; what they ask of it is done one after another.

    Attributes:
        kind: "card" for the card's own, "token" for that of the token its keys are in.
    """

    kind: ClassVar[Literal["card", "token"]]

    def __init__(self, store: StateStore, serial: str, offload: Offload[Any]) -> None:
        """Use `open` of the subclass."""
        self._counter = PinCounter(store, serial)
        self._serial = serial
        self._offload = offload
        self._lock = store.lock(serial)

    @property
    def fault(self) -> StateError | None:
        """Why the state on disk cannot be used, or None; until `reset`, nothing verifies."""
        return self._counter.fault

    @property
    def factory(self) -> bool:
        """Whether the PIN is still the one every new card has."""
        return self._counter.kept.factory

    @property
    def limit(self) -> int:
        """How often it may be wrong in a row."""
        return self._counter.kept.limit

    @property
    def tries_left(self) -> int:
        """Tries left, 0 to `limit`; 0 too where the state on disk cannot be used."""
        return self._counter.tries_left

    async def still_proved(self) -> bool:
        """Whether what a session proved by this PIN holds: a token that was pulled forgets."""
        return True

    async def verify(self, candidate: bytes) -> Outcome:
        """Check a PIN, padding already taken off.

        Raises:
            StateError: the disk would not take the try (the PIN was not looked at then) or
                not give it back; the PIN counts as not verified.
            TokenGone, KeyOperationError: the token could not tell; no try was spent.
        """
        return await self._exclusively(partial(self._attempt, candidate, self._restored))

    async def change(self, old: bytes, new: bytes) -> Outcome:
        """Check the old PIN, as `verify` does, and set a new one if it is right.

        Raises:
            ValueError: the new one is none this card can have; nothing was counted.
            KeyOperationError: the token does not take it.
            StateError, TokenGone: as `verify`.
        """
        self._check_new(new)
        return await self._exclusively(partial(self._change, old, new))

    async def reset(self, new: bytes | None = None) -> None:
        """Give all tries back, and set a new PIN if one is named: `vccidctl pin reset`.

        Raises:
            VccidError: the new PIN is none this card can have, or one must be named.
            StateError: the disk will not take it.
        """
        await self._exclusively(partial(self._reset, new))

    async def _exclusively(self, work: Callable[[], T]) -> T:
        """Run a blocking function with the card's locks held, to its end.

        The caller may be cancelled meanwhile; the locks are kept until the work is done.
        """
        task = asyncio.ensure_future(self._locked(work))
        # Where the caller is gone nobody asks for the outcome.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _locked(self, work: Callable[[], T]) -> T:
        async with self._lock:
            result: T = await self._offload(work)
            return result

    def _attempt(self, candidate: bytes, renew: Callable[[PinState], PinState]) -> Outcome:
        """Count a try, check a PIN, and write `renew` of the state if it is right. Blocks."""
        counter = self._counter
        try:
            before = counter.load()
        except StateError as error:
            _log.error("%s; %s", error.message, error.hint, extra={"card": self._serial})
            return Outcome(Verdict.BLOCKED, 0)
        if counter.state is State.BLOCKED:
            return Outcome(Verdict.BLOCKED, 0)
        counted = counter.count()
        try:
            right = self._matches(candidate, counted)
            if right:
                counter.give_back(renew(counted))
        except TokenLocked as error:
            counter.give_back(before)  # It was not looked at: nothing is known of it.
            _log.error("%s; %s", error.message, error.hint, extra={"card": self._serial})
            return Outcome(Verdict.BLOCKED, 0)
        except StateError:
            raise
        except VccidError:
            counter.give_back(before)
            raise
        finally:
            counter.spend()
        if right:
            return Outcome(Verdict.RIGHT, counted.limit)
        return Outcome(Verdict.WRONG, counted.tries_left)

    @staticmethod
    def _restored(state: PinState) -> PinState:
        return replace(state, tries_left=state.limit)

    @abstractmethod
    def _matches(self, candidate: bytes, state: PinState) -> bool:
        """Whether a PIN is right. Blocks."""

    @abstractmethod
    def _check_new(self, new: bytes) -> None:
        """Raise ValueError for a PIN this card cannot have."""

    @abstractmethod
    def _change(self, old: bytes, new: bytes) -> Outcome:
        """`change`, blocking."""

    @abstractmethod
    def _reset(self, new: bytes | None) -> None:
        """`reset`, blocking."""


class CardPin(Pin):
    """A PIN of the card's own, kept as a scrypt hash.

    Attributes:
        initial: what a new card's is where the user names none.
    """

    kind = "card"
    initial: ClassVar[bytes] = FACTORY_PIN
    #: the hash of the PIN that was right in this process, and its digest
    _known: tuple[PinHash, bytes] | None = None

    @classmethod
    async def open(
        cls, store: StateStore, serial: str, offload: Offload[Any], initial: bytes | None = None
    ) -> Self:
        """A card's PIN; a card that has none yet gets `initial`, or else the factory's.

        A card that has one keeps it: `initial` is not looked at then. State that cannot be
        read is no error here, since the card still shows its certificates: see `fault`.

        Raises:
            VccidError: `initial` is none a card can have.
            StateError: the first state cannot be written.
        """
        pin = cls(store, serial, offload)
        if initial is not None:
            pin._check_user_pin(initial)
        await pin._exclusively(partial(pin._open, initial))
        return pin

    def _open(self, initial: bytes | None) -> None:
        try:
            state = self._counter.find()
        except StateError:
            return  # `fault` says so
        if state is None or state.pin is None:
            tries_left = MAX_TRIES if state is None else state.tries_left
            pin = _hash(self.initial if initial is None else initial)
            chosen = initial is not None
            first = pin if chosen else None
            self._counter.set(PinState(tries_left, pin, factory=not chosen, first=first))

    def _matches(self, candidate: bytes, state: PinState) -> bool:
        """As `TokenLogin`, by a keyed digest once the PIN is known: a card asks for it often."""
        kept = state.pin
        if kept is None:
            return False
        digest = hmac.digest(_DIGEST_KEY, candidate, "sha256")
        if self._known is not None and self._known[0] == kept:
            return hmac.compare_digest(digest, self._known[1])
        right = hmac.compare_digest(_scrypt(candidate, kept), kept.digest)
        if right:
            self._known = (kept, digest)
        return right

    def _check_new(self, new: bytes) -> None:
        if not (MIN_PIN <= len(new) <= MAX_PIN and all(0x20 <= byte < 0x7F for byte in new)):
            raise ValueError(f"a card PIN has {MIN_PIN} to {MAX_PIN} ASCII characters")

    def _check_user_pin(self, new: bytes) -> None:
        try:
            self._check_new(new)
        except ValueError as error:
            raise VccidError(str(error), "digits are what most programs take") from error

    def _change(self, old: bytes, new: bytes) -> Outcome:
        return self._attempt(old, lambda state: _chosen(new, state))

    def _reset(self, new: bytes | None) -> None:
        if new is not None:
            self._check_user_pin(new)
            self._counter.set(_chosen(new, self._counter.kept))
            return
        try:
            self._counter.set(self._restored(self._counter.load()))
        except StateError as error:
            if self.fault is None:
                raise
            raise StateError(error.message, "name a new PIN, the old one is lost") from error

    async def start_again(self, limit: int | None = None) -> None:
        """Be the factory's PIN again with all its tries, and so many of them if a number is given.

        Raises:
            StateError: the disk will not take it.
        """
        await self._exclusively(partial(self._start_again, limit))

    def _start_again(self, limit: int | None) -> None:
        tries, first = self.limit if limit is None else limit, self._counter.kept.first
        self._counter.set(PinState(tries, _hash(self.initial), True, tries, first))

    async def be_as_new(self) -> None:
        """Be what it was when the card was new, the factory's or a chosen one, with all its tries.

        Raises:
            StateError: the disk will not take it.
        """
        await self._exclusively(self._be_as_new)

    def _be_as_new(self) -> None:
        first = self._counter.kept.first
        pin = _hash(self.initial) if first is None else first
        self._counter.set(PinState(MAX_TRIES, pin, factory=first is None, first=first))


class TokenPin(Pin):
    """The PIN of the token the card's keys are in: an NSS database's password, a PKCS#11 PIN."""

    kind = "token"

    def __init__(
        self, login: TokenLogin, store: StateStore, serial: str, offload: Offload[Any]
    ) -> None:
        """Use `open`."""
        super().__init__(store, serial, offload)
        self._login = login

    @classmethod
    async def open(
        cls, login: TokenLogin, store: StateStore, serial: str, offload: Offload[Any]
    ) -> TokenPin:
        """A card's PIN that is a token's. State that cannot be read is no error: see `fault`.

        Raises:
            StateError: the first state cannot be written.
        """
        pin = cls(login, store, serial, offload)
        await pin._exclusively(pin._open)
        return pin

    def _open(self) -> None:
        try:
            if self._counter.find() is None:
                self._counter.set(PinState(MAX_TRIES))
        except StateError:
            if self.fault is None:
                raise

    @property
    def factory(self) -> bool:
        return False  # whatever a PIN of the card's own was, before it had this one

    async def still_proved(self) -> bool:
        asked: bool = await self._offload(self._login.token.still_logged_in)
        return asked

    async def change(self, old: bytes, new: bytes) -> Outcome:
        if refusal := self._login.token.pin_refusal:
            raise KeyOperationError(
                f"the PIN is that of {self._login.token.name} and is not changed here", refusal
            )
        return await super().change(old, new)

    async def _locked(self, work: Callable[[], T]) -> T:
        async with self._login.lock:
            return await super()._locked(work)

    def _matches(self, candidate: bytes, state: PinState) -> bool:
        return self._login.matches(candidate)

    def _check_new(self, new: bytes) -> None:
        if not new:
            raise ValueError("a token's PIN is not empty")

    def _change(self, old: bytes, new: bytes) -> Outcome:
        outcome = self._attempt(old, self._restored)
        if outcome.verdict is Verdict.RIGHT:
            try:
                self._login.change(old, new)
            except (WrongPassword, TokenLocked) as error:
                # It was right for this process and is no longer for the token.
                raise KeyOperationError(error.message, error.hint) from error
        return outcome

    def _reset(self, new: bytes | None) -> None:
        if new is not None:
            raise VccidError(
                f"the card's PIN is that of {self._login.token.name}",
                "change it there; here only its tries can be given back",
            )
        try:
            state = self._restored(self._counter.load())
        except StateError:
            state = PinState(MAX_TRIES)
        self._counter.set(state)
        self._login.forget_wrong()


def _chosen(pin: bytes, state: PinState) -> PinState:
    """The state of a PIN that somebody chose just now, in place of another."""
    return replace(state, tries_left=state.limit, pin=_hash(pin), factory=False)


def _hash(pin: bytes) -> PinHash:
    # What everybody knows is not guessed, so a new card need not wait for a guess's price.
    cost = _PUBLIC_COST if pin in _PUBLIC else SCRYPT_COST
    empty = PinHash(os.urandom(16), b"", cost, r=8, p=1)
    return replace(empty, digest=_scrypt(pin, empty))


def _scrypt(pin: bytes, kept: PinHash) -> bytes:
    memory = 128 * kept.n * kept.r * kept.p + (1 << 20)
    return hashlib.scrypt(
        pin, salt=kept.salt, n=kept.n, r=kept.r, p=kept.p, maxmem=2 * memory, dklen=32
    )
