# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards going into readers and out: made ones, real ones, and those that were in before."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from vccid.card.card import Card
from vccid.errors import ReaderError, StateError, VccidError, unexpected
from vccid.readers import real_cards
from vccid.readers.card_maker import CardMaker
from vccid.readers.managed_reader import ManagedReader
from vccid.readers.readers_json import CardSource, MadeCard, RealCard
from vccid.readers.serial_numbers import SerialNumbers
from vccid.settings.config import Settings

log = logging.getLogger(__name__)

#: Seconds an insert waits for a real card that is there; OpenSC may take some to read it.
_FIRST_LOOK: Final = 20.0


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of an insert.

    Attributes:
        managed: where the card is.
        card: what is in now; None while a real card's reader is empty.
        generation: of the reader; hosts are waited for by it.
        warnings: for the user, one line each.
    """

    managed: ManagedReader
    card: Card | None
    generation: int
    warnings: list[str] = field(default_factory=list)


class Inserter:
    """Puts cards into readers, and takes them out.

    Attributes:
        settings: what cards and real cards are to be like.
    """

    def __init__(self, cards: CardMaker, serials: SerialNumbers, settings: Settings) -> None:
        self.settings = settings
        self._cards = cards
        self._serials = serials

    async def prepare(self) -> None:
        """As `CardMaker.prepare`."""
        await self._cards.prepare()

    def apply(self, settings: Settings) -> None:
        """From now on, be as these settings want it."""
        self.settings = settings
        self._cards.settings = settings.pkcs11

    async def insert(
        self,
        managed: ManagedReader,
        source: CardSource | None,
        password: bytes | None,
        pin: bytes | None,
        label: str | None = None,
    ) -> Inserted:
        """Put a card in, made or real; without `source`, what was last put in there.

        Args:
            label: what programs shall see the reader by, as `ReaderManager.insert`.

        Raises:
            ReaderError: the reader is full or was removed, nothing was ever put in, or a secret
                came with a real card.
            KeySourceError, StateError, VccidError: the card cannot be made.
        """
        async with managed.content.lock:
            _check_empty(managed)
            source = source or managed.content.source or managed.content.last_source
            if source is None:
                raise ReaderError(
                    f"reader {managed.name} never had a card to put back",
                    "name certificates: vccidctl insert --certs A,B,C",
                )
            if isinstance(source, RealCard):
                source = await real_cards.find(source, self._serials.is_ours, self.settings)
            if isinstance(source, RealCard) and (password, pin) != (None, None):
                raise ReaderError(
                    "a real card takes no PIN and no password here: it has its own PIN",
                    "leave them out, and enter the real card's PIN where the card is used",
                )
            inserted = await self._put_in(managed, source, password, pin, label)
        return await _first_look(inserted)

    async def remove(self, managed: ManagedReader) -> int:
        """Take the card out, or forget the one that could not be put back.

        Returns:
            The reader's generation then.

        Raises:
            ReaderError: nothing is in it.
        """
        async with managed.content.lock:
            await managed.content.remove()
            return managed.reader.generation

    async def put_back(self, managed: ManagedReader) -> None:
        """Put in what was in before a restart; where that fails, `problem` has why."""
        async with managed.content.lock:
            source = managed.content.source
            if source is None or not managed.content.is_awaited:
                return
            try:
                await self._put_in(managed, source, None, None)
            except OSError as error:  # what no source of keys expects
                _not_put_back(managed, StateError(error.strerror or str(error)))
            except VccidError as error:
                _not_put_back(managed, error)
            except Exception as error:
                log.exception("the card could not be put back", extra={"reader": managed.name})
                _not_put_back(managed, unexpected(error))

    async def _put_in(
        self,
        managed: ManagedReader,
        source: CardSource,
        password: bytes | None,
        pin: bytes | None,
        label: str | None = None,
    ) -> Inserted:
        if isinstance(source, RealCard):
            await managed.relabel(label, "")
            inserted = await self._follow(managed, source)
        else:
            inserted = await self._put_made_in(managed, source, password, pin, label)
        for warning in inserted.warnings:
            log.warning("%s", warning, extra={"reader": managed.name})
        return inserted

    async def _put_made_in(
        self,
        managed: ManagedReader,
        source: MadeCard,
        password: bytes | None,
        pin: bytes | None,
        label: str | None,
    ) -> Inserted:
        kept = self.settings.real_cards.tries_kept
        card, warnings = await self._cards.make(source, password, pin, kept)
        try:
            await managed.relabel(label, _reader_name(source.profile))
            managed.given_touch = source.touch
            managed.apply_touch(card)
            if source.contactless or managed.settings.contactless:
                _make_contactless(card)
            _check_empty(managed)
            inserted = Inserted(managed, card, managed.reader.insert(card), warnings)
        except VccidError:
            card.close()
            raise
        loop = asyncio.get_running_loop()

        def lost(error: VccidError) -> None:
            with suppress(RuntimeError):  # the loop is closed: so is everything
                loop.call_soon_threadsafe(_lost, managed, card, error)

        card.watch(lost)
        managed.content.made(source)
        return inserted

    async def _follow(self, managed: ManagedReader, source: RealCard) -> Inserted:
        """A card that is in the real reader comes a moment later."""
        follower = real_cards.follower(
            managed.reader, source, self._serials.is_ours, self.settings, self._cards
        )
        await follower.start()
        try:
            managed.check_there()
        except ReaderError:
            await follower.stop()
            raise
        managed.content.followed(source, follower)
        return Inserted(managed, None, managed.reader.generation)


def _make_contactless(card: Card) -> None:
    from vccid.card.piv.piv_card import PivCard

    if isinstance(card, PivCard):
        card.contactless = True


def _reader_name(profile: str) -> str:
    if not profile:
        return ""
    from vccid.card.piv.profiles import profile_named

    return profile_named(profile).reader_name


def _check_empty(managed: ManagedReader) -> None:
    """The reader's own check, before keys are fetched for nothing."""
    managed.check_there()
    if managed.reader.card is not None or managed.content.is_followed:
        held = "holds a card" if managed.reader.card is not None else "follows a real card"
        raise ReaderError(
            f"reader {managed.name} already {held}",
            f"remove it first: vccidctl remove {managed.name}",
        )


async def _first_look(inserted: Inserted) -> Inserted:
    """What came of following a real card, once its reader was looked at."""
    managed = inserted.managed
    follower = managed.content.follower
    if follower is None:
        return inserted
    await follower.first_look(_FIRST_LOOK)
    warnings = [follower.trouble] if follower.trouble else []
    return Inserted(managed, managed.reader.card, managed.reader.generation, warnings)


def _lost(managed: ManagedReader, card: Card, error: VccidError) -> None:
    """What the card is made of is gone: so it leaves, and `status` has the reason."""
    if managed.reader.card is not card:
        return
    managed.content.failed(error)
    log.error("the card left: %s; %s", error.message, error.hint, extra={"reader": managed.name})
    managed.reader.remove()


def _not_put_back(managed: ManagedReader, error: VccidError) -> None:
    managed.content.failed(error)
    log.warning(
        "the card could not be put back: %s; %s",
        error.message,
        error.hint,
        extra={"reader": managed.name},
    )
