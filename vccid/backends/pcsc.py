# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real cards in PC/SC readers of this host: passed through, or their certificates emulated.

`PcscRelay` puts the card itself into one of our readers, with its own ATR. `PcscEmulation`
puts a card of ours there that is made from the real one's certificates and keys, so that
this host goes on using the real one. Either follows its reader: what is pulled there leaves here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from smartcard import scard

from vccid.backends.pcsc_card import PcscCard, RelaySettings, Worker
from vccid.backends.pcsc_watch import PcscRefusal, PcscWatch, check_reader
from vccid.card.card import Card
from vccid.errors import ReaderError, VccidError, unexpected
from vccid.process.cleanup import take_all_async
from vccid.reader import Reader

_log = logging.getLogger(__name__)


class Follower(ABC):
    """One PC/SC reader's card, in one of our readers in some form.

    Attributes:
        name: the PC/SC reader's.
        trouble: why there is no card, or "".
    """

    def __init__(self, reader: Reader, name: str, is_ours: Callable[[str], bool]) -> None:
        """`name` is the PC/SC reader's, complete; `is_ours` as in `PcscWatch`."""
        self.name = name
        self.trouble = ""
        self._reader = reader
        self._card: Card | None = None
        self._watch = PcscWatch(name, is_ours, self._told)
        self._looked = asyncio.Event()

    @property
    def status(self) -> str:
        """How it stands, in a few words."""
        return self.trouble or ("card present" if self._card is not None else "no card")

    async def start(self) -> None:
        """Begin to follow the reader; a card that is in comes a moment later."""
        self._watch.start()

    async def first_look(self, seconds: float) -> None:
        """Wait, so long at most, until a card that was in before is in ours."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._looked.wait()

    async def stop(self) -> None:
        """Take the card out and follow no more. May be repeated."""
        await take_all_async(self._watch.stop, lambda: self._told(b"", ""))

    def _told(self, atr: bytes, trouble: str) -> None:
        """A card with this ATR came, or b"": none is there any more."""
        self._note(trouble)
        card, self._card = self._card, None
        if card is not None and self._reader.card is card:
            self._reader.remove()
        self._came(atr)

    def _insert(self, card: Card) -> None:
        if self._reader.card is not None:
            self._note(f"reader {self._reader.name} holds another card")
            card.close()
            return
        self._card = card
        self._reader.insert(card)

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            _log.warning("%s: %s", self.name, trouble)
        self.trouble = trouble

    @abstractmethod
    def _came(self, atr: bytes) -> None:
        """The card there is now, b"" for none; the one before has left ours."""


class PcscRelay(Follower):
    """The real card itself, passed through."""

    def __init__(
        self,
        reader: Reader,
        name: str,
        is_ours: Callable[[str], bool],
        settings: RelaySettings = RelaySettings(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(reader, name, is_ours)
        self._settings = settings
        self._is_ours = is_ours
        self._worker = Worker(name)

    async def stop(self) -> None:
        await take_all_async(super().stop, self._worker.end)

    @property
    def status(self) -> str:
        return f"{super().status}, {self._worker.commands} commands"

    def _came(self, atr: bytes) -> None:
        if atr:
            self._insert(PcscCard(self.name, atr, self._worker, self._settings, self._is_ours))
        self._looked.set()


class PcscEmulation(Follower):
    """A card of ours, made anew from the real card's certificates each time that is put in."""

    def __init__(
        self,
        reader: Reader,
        name: str,
        is_ours: Callable[[str], bool],
        make: Callable[[], Awaitable[Card]],
    ) -> None:
        """`make` makes the card, through the real card's PKCS#11 module; it may fail."""
        super().__init__(reader, name, is_ours)
        self._make = make
        self._making: asyncio.Task[None] | None = None

    def _came(self, atr: bytes) -> None:
        if self._making is not None:
            self._making.cancel()
            self._making = None
        if atr:
            self._making = asyncio.get_running_loop().create_task(self._emulate())
        else:
            self._looked.set()

    async def _emulate(self) -> None:
        try:
            self._insert(await self._make())
        except VccidError as error:
            self._note(error.message)
        except Exception as error:
            _log.exception("%s: no card can be made of the one in it", self.name)
            self._note(unexpected(error).message)
        finally:
            self._looked.set()


class Readers:
    """The PC/SC readers there are, none without a pcscd; a context manager whose calls block.

    Raises:
        PcscRefusal: the daemon may not use pcscd.
    """

    def __enter__(self) -> Readers:
        result, self._context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        if result == scard.SCARD_W_SECURITY_VIOLATION:
            raise PcscRefusal
        self._there = result == scard.SCARD_S_SUCCESS
        return self

    def __exit__(self, *error: object) -> None:
        if self._there:
            scard.SCardReleaseContext(self._context)

    def names(self) -> list[str]:
        """The names of all."""
        if not self._there:
            return []
        result, names = scard.SCardListReaders(self._context, [])
        return list(names) if result == scard.SCARD_S_SUCCESS else []

    def check(self, name: str, is_ours: Callable[[str], bool]) -> None:
        """As `check_reader`."""
        check_reader(self._context, name, is_ours)

    def may_be_followed(self, name: str, is_ours: Callable[[str], bool]) -> bool:
        """Whether `check` finds nothing wrong; a refusal is raised."""
        try:
            self.check(name, is_ours)
        except PcscRefusal:
            raise
        except ReaderError:
            return False
        return True
