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
from types import MappingProxyType
from typing import Any, Final

from vccid.card.card import Offload
from vccid.card.piv.algorithms import Algorithm
from vccid.card.piv.keys import CardKey, StoredKey, ready

#: What every new card has (as Yubico's have it), so that its tools find it.
FACTORY_MANAGEMENT_KEY: Final = bytes(range(1, 9)) * 3


@dataclass(frozen=True, slots=True)
class ManagementKey:
    """Reference 9B.

    Attributes:
        algorithm: 3DES or AES.
        key: as long as `CIPHER_KEYS` says.
    """

    algorithm: Algorithm = Algorithm.TDES
    key: bytes = field(default=FACTORY_MANAGEMENT_KEY, repr=False)

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
    """All that a card keeps but its PIN and PUK.

    Attributes:
        guid: 16 bytes, the card's UUID.
        issuer: who signs its objects.
        objects: content within 53, or within its own tag, by tag; none is empty.
        keys: those generated or imported, by reference; None where the one that the card came
            with was deleted.
        management: the card management key.
    """

    guid: bytes
    issuer: Issuer
    objects: Mapping[int, bytes] = MappingProxyType({})
    keys: Mapping[int, StoredKey | None] = MappingProxyType({})
    management: ManagementKey = field(default_factory=ManagementKey)

    def with_object(self, tag: int, content: bytes) -> Contents:
        """With another object in place of that with the tag; an empty one is none."""
        objects = {**self.objects, tag: content}
        if not content:
            del objects[tag]
        return replace(self, objects=MappingProxyType(objects))

    def with_key(self, reference: int, key: StoredKey | None) -> Contents:
        """With another key in place of that with the reference."""
        return replace(self, keys=MappingProxyType({**self.keys, reference: key}))


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


class CardMemory:
    """A card's contents as they are now, for all its sessions.

    Attributes:
        contents: as they are.
    """

    def __init__(
        self,
        contents: Contents,
        given: Mapping[int, CardKey],
        keeper: Keeper,
        offload: Offload[Any],
    ) -> None:
        """Take a card's contents, already kept.

        Args:
            contents: as `keeper` has them.
            given: keys that the card came with, by reference; they live elsewhere.
            keeper: where changes are kept.
            offload: runs what blocks.
        """
        self.contents = contents
        self.offload = offload
        self._given = given
        self._keeper = keeper
        self._lock = asyncio.Lock()
        self._ready: dict[int, tuple[StoredKey, CardKey]] = {}

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
        async with self._lock:
            self.contents = await self.offload(partial(self._keep, work, self.contents))

    def _keep(self, work: Callable[[Contents], Contents], before: Contents) -> Contents:
        after = work(before)
        self._keeper.save(after)
        return after
