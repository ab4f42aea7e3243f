# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is on a PIV card: objects, keys and the management key; and how it is changed.

A `Contents` is a value. A change makes another, which is written to the disk before the card
has it, so that a card is never ahead of its file.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from vccid.card.card import Offload
from vccid.card.piv.algorithms import Algorithm
from vccid.card.piv.keys import CardKey, StoredKey, ready
from vccid.card.piv.sm_credential import SmCredential

#: What every new card has (as Yubico's have it), so that its tools find it.
FACTORY_MANAGEMENT_KEY: Final = bytes(range(1, 9)) * 3


@dataclass(frozen=True, slots=True)
class ManagementKey:
    """Reference 9B.

    Attributes:
        algorithm: 3DES or AES.
        key: as long as `CIPHER_KEYS` says.
        touch: when it wants a touch; Yubico's number.
    """

    algorithm: Algorithm = Algorithm.TDES
    key: bytes = field(default=FACTORY_MANAGEMENT_KEY, repr=False)
    touch: int = 1

    @property
    def factory(self) -> bool:
        """Whether it is the one every new card has."""
        return self.key == FACTORY_MANAGEMENT_KEY


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs the card's objects: a key of the card's own maker.

    Attributes:
        pkcs8: its private key, DER.
        certificate: DER, for content signing.
    """

    pkcs8: bytes = field(repr=False)
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a card keeps but its PIN and PUK. Its mappings are never changed.

    Attributes:
        guid: 16 bytes, the card's UUID.
        issuer: who signs its objects.
        attester: who says which keys were generated on it.
        objects: content within 53, or within its own tag, by tag; none is empty.
        keys: those generated or imported, by reference; None where the one that the card came
            with was deleted.
        management: the card management key.
        secure_messaging: what it has for that, or None.
    """

    guid: bytes
    issuer: Issuer
    attester: Issuer
    objects: Mapping[int, bytes] = field(default_factory=dict)
    keys: Mapping[int, StoredKey | None] = field(default_factory=dict)
    management: ManagementKey = field(default_factory=ManagementKey)
    secure_messaging: SmCredential | None = None

    def with_object(self, tag: int, content: bytes) -> Contents:
        """With another object in place of that with the tag; an empty one is none."""
        objects = {**self.objects, tag: content}
        if not content:
            del objects[tag]
        return replace(self, objects=objects)

    def with_key(self, reference: int, key: StoredKey | None) -> Contents:
        """With another key in place of that with the reference."""
        return replace(self, keys={**self.keys, reference: key})


class Keeper(ABC):
    """Where contents are kept. Its methods block."""

    @abstractmethod
    def load(self) -> Contents | None:
        """What was kept, or None.

        Raises:
            StateError: it cannot be read.
        """

    @abstractmethod
    def save(self, contents: Contents) -> None:
        """Keep them; they are on the disk when this returns.

        Raises:
            StateError: the disk will not take them. The old ones are still there.
        """


class MemoryKeeper(Keeper):
    """Keeps nothing once the card is gone."""

    def load(self) -> Contents | None:
        return None

    def save(self, contents: Contents) -> None:
        pass


class SharedContents:
    """Contents as they are now, for every card that has them: one may be in two readers at once.

    Attributes:
        current: as they are.
        keeper: where they are kept.
        lock: held from reading `current` to having another.
    """

    def __init__(self, current: Contents, keeper: Keeper) -> None:
        """`current` is what `keeper` has."""
        self.current = current
        self.keeper = keeper
        self.lock = asyncio.Lock()


class CardMemory:
    """A card's contents and keys, for all its sessions.

    Attributes:
        offload: runs what blocks.
        resets: how often the card was made new; what was proved before is void.
    """

    def __init__(
        self, shared: SharedContents, given: Mapping[int, CardKey], offload: Offload[Any]
    ) -> None:
        """Take contents.

        Args:
            shared: the contents.
            given: keys that the card came with, by reference; they live elsewhere.
            offload: runs what blocks.
        """
        self.offload = offload
        self.resets = 0
        self._shared = shared
        self._given = given
        self._ready: dict[int, tuple[StoredKey, CardKey]] = {}

    @property
    def contents(self) -> Contents:
        """The contents as they are."""
        return self._shared.current

    def key(self, reference: int) -> CardKey | None:
        """The key with a reference, or None."""
        if reference not in self.contents.keys:
            return self._given.get(reference)
        stored = self.contents.keys[reference]
        if stored is None:
            return None
        held = self._ready.get(reference)
        if held is None or held[0] is not stored:
            self._ready[reference] = held = (stored, ready(stored))
        return held[1]

    @property
    def given(self) -> frozenset[int]:
        """References of the keys that the card came with."""
        return frozenset(self._given)

    async def change(self, work: Callable[[Contents], Contents]) -> None:
        """Make other contents of the present ones, and have them once they are kept.

        Args:
            work: makes them; may block.

        Raises:
            StateError: they cannot be kept; the card is as it was.
        """
        task = asyncio.ensure_future(self._change(work))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)  # a card removed meanwhile is none that has half of it

    async def _change(self, work: Callable[[Contents], Contents]) -> None:
        shared = self._shared
        async with shared.lock:
            shared.current = await self.offload(partial(_keep, shared, work))


def _keep(shared: SharedContents, work: Callable[[Contents], Contents]) -> Contents:
    after = work(shared.current)
    shared.keeper.save(after)
    return after
