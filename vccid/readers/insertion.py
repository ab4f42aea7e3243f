# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards going into readers and out: made ones, real ones, and those that were in before."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from vccid.card.card import Card
from vccid.errors import ReaderError, StateError, VccidError, unexpected
from vccid.readers import real_cards
from vccid.readers.card_maker import CardMaker
from vccid.readers.managed_reader import Station
from vccid.readers.readers_json import RealCard, Wanted, Wish
from vccid.readers.serial_numbers import Serials
from vccid.settings.config import Settings

log = logging.getLogger(__name__)

#: Seconds an insert waits for a real card that is there; OpenSC may take some to read it.
_FIRST_LOOK: Final = 20.0


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of an insert.

    Attributes:
        station: where the card is.
        card: what is in now; None while a real card's reader is empty.
        generation: of the reader; hosts are waited for by it.
        warnings: for the user, one line each.
    """

    station: Station
    card: Card | None
    generation: int
    warnings: list[str] = field(default_factory=list)


class Inserter:
    """Puts cards into readers, and takes them out.

    Attributes:
        settings: what cards and real cards are to be like.
    """

    def __init__(self, cards: CardMaker, serials: Serials, settings: Settings) -> None:
        self.settings = settings
        self._cards = cards
        self._serials = serials

    async def insert(
        self, station: Station, wanted: Wish | None, password: bytes | None, pin: bytes | None
    ) -> Inserted:
        """Put a card in, made or real; without `wanted`, what was last put in there.

        Raises:
            ReaderError: the reader is full or was removed, nothing was ever put in, or a secret
                came with a real card.
            KeySourceError, StateError, VccidError: the card cannot be made.
        """
        async with station.card_lock:
            _check_empty(station)
            wanted = wanted or station.wanted or station.last
            if wanted is None:
                raise ReaderError(
                    f"reader {station.name} never had a card to put back",
                    "name certificates: vccidctl insert --certs A,B,C",
                )
            if isinstance(wanted, RealCard):
                wanted = await real_cards.find(wanted, self._serials.is_ours, self.settings)
            if isinstance(wanted, RealCard) and (password, pin) != (None, None):
                raise ReaderError(
                    "a real card takes no PIN and no password here: it has its own PIN",
                    "leave them out, and enter the real card's PIN where the card is used",
                )
            inserted = await self._put_in(station, wanted, password, pin)
        return await _first_look(inserted)

    async def remove(self, station: Station) -> int:
        """Take the card out, or forget the one that could not be put back.

        Returns:
            The reader's generation then.

        Raises:
            ReaderError: nothing is in it.
        """
        async with station.card_lock:
            if station.follower is not None:
                await station.unfollow()
            elif station.reader.card is not None or station.problem is None:
                station.reader.remove()
            station.wanted = station.problem = None
            return station.reader.generation

    async def put_back(self, station: Station) -> None:
        """Put in what was in before a restart; where that fails, `problem` has why."""
        async with station.card_lock:
            wanted = station.wanted
            if wanted is None or station.reader.card is not None or station.follower is not None:
                return
            try:
                await self._put_in(station, wanted, None, None)
            except OSError as error:  # what no source of keys expects
                _not_put_back(station, StateError(error.strerror or str(error)))
            except VccidError as error:
                _not_put_back(station, error)
            except Exception as error:
                log.exception("the card could not be put back", extra={"reader": station.name})
                _not_put_back(station, unexpected(error))

    async def _put_in(
        self, station: Station, wanted: Wish, password: bytes | None, pin: bytes | None
    ) -> Inserted:
        if isinstance(wanted, RealCard):
            inserted = await self._follow(station, wanted)
        else:
            inserted = await self._put_made_in(station, wanted, password, pin)
        station.wanted = station.last = wanted
        station.problem = None
        for warning in inserted.warnings:
            log.warning("%s", warning, extra={"reader": station.name})
        return inserted

    async def _put_made_in(
        self, station: Station, wanted: Wanted, password: bytes | None, pin: bytes | None
    ) -> Inserted:
        card, warnings = await self._cards.make(wanted, password, pin)
        try:
            _check_empty(station)
            return Inserted(station, card, station.reader.insert(card), warnings)
        except ReaderError:
            card.close()
            raise

    async def _follow(self, station: Station, wanted: RealCard) -> Inserted:
        """A card that is in the real reader comes a moment later."""
        follower = real_cards.follower(
            station.reader, wanted, self._serials.is_ours, self.settings, self._cards
        )
        await follower.start()
        try:
            station.check_there()
        except ReaderError:
            await follower.stop()
            raise
        station.follower = follower
        return Inserted(station, None, station.reader.generation)


def _check_empty(station: Station) -> None:
    """The reader's own check, before keys are fetched for nothing."""
    station.check_there()
    if station.reader.card is not None or station.follower is not None:
        held = "holds a card" if station.reader.card is not None else "follows a real card"
        raise ReaderError(
            f"reader {station.name} already {held}",
            f"remove it first: vccidctl remove {station.name}",
        )


async def _first_look(inserted: Inserted) -> Inserted:
    """What came of following a real card, once its reader was looked at."""
    station = inserted.station
    follower = station.follower
    if follower is None:
        return inserted
    await follower.first_look(_FIRST_LOOK)
    warnings = [follower.trouble] if follower.trouble else []
    return Inserted(station, station.reader.card, station.reader.generation, warnings)


def _not_put_back(station: Station, error: VccidError) -> None:
    station.problem = error
    log.warning(
        "the card could not be put back: %s; %s",
        error.message,
        error.hint,
        extra={"reader": station.name},
    )
