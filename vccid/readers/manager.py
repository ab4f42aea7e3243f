# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's readers, and everything that may be done to them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vccid.errors import ReaderError, StateError, VccidError
from vccid.process.cleanup import take_all_async
from vccid.readers.attachments import Attachment
from vccid.readers.card_maker import CardMaker
from vccid.readers.event_watchers import ReaderEvents
from vccid.readers.frontend_maker import FrontendMaker
from vccid.readers.insertion import Inserted, Inserter
from vccid.readers.managed_reader import ManagedReader
from vccid.readers.persistence import Persistence
from vccid.readers.reader_set import ReaderSet
from vccid.readers.readers_json import CardSource
from vccid.readers.serial_numbers import SerialNumbers
from vccid.settings.config import Settings, check_reader_name
from vccid.settings.directories import Directories

if TYPE_CHECKING:
    from vccid.readers.far_cards import FarCardListeners
    from vccid.readers.mount_child import FileViewKeeper

#: Seconds after its start in which the daemon has better things to do than to prepare.
_IDLE: Final = 1.0


class ReaderManager:
    """All readers.

    Attributes:
        readers: those there are.
        events: all that happens to them.
        far_cards: the listeners for cards from elsewhere, once the settings wanted one.
        frontends: makes what shows them to hosts.
    """

    def __init__(
        self, directories: Directories, settings: Settings, control: Path | None = None
    ) -> None:
        """`control` is where the daemon's control socket is, if not in its directory."""
        self._control = control or directories.control
        self._settings = settings
        serials = SerialNumbers(directories.state)
        self._inserter = Inserter(CardMaker(directories, settings.pkcs11), serials, settings)
        self.frontends = FrontendMaker(directories.runtime, serials, settings)
        self.far_cards: FarCardListeners | None = None
        self.events = ReaderEvents()
        self.readers = ReaderSet(self.frontends, self.events, settings)
        self._persistence = Persistence(directories.state, self.readers.by_name)
        self.readers.lost = self._persistence.keep_soon
        self._file_view: FileViewKeeper | None = None

    # -- life ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the readers, all empty.

        Raises:
            ConfigError: a frontend's place cannot be had.
        """
        entries = self._persistence.load()
        for name, settings in self._settings.readers.items():
            await self.readers.declare(name, settings)
        for name, entry in entries.items():
            if name not in self.readers.by_name and entry.added:
                await self.readers.add(name)
            if name in self.readers.by_name:
                await self.readers.by_name[name].recall(entry)
        await self._take_far_cards(self._settings)

    async def restore(self) -> None:
        """Put back each card and attach each reader as before; none holds up another."""
        await self._show_files()
        await asyncio.gather(*map(self._restore, self.readers.by_name.values()))

    async def prepare(self) -> None:
        """Make ready, while nothing is asked for, what would hold up the first card of a token."""
        await asyncio.sleep(_IDLE)
        await self._inserter.prepare()

    async def apply(self, settings: Settings) -> None:
        """Let the readers be as new settings want them; one that cannot keeps back no other.

        Raises:
            ConfigError, NotPermitted: a server cannot be as they want it; nothing has changed.
        """
        await self.frontends.apply(settings)
        try:
            await self._take_far_cards(settings)
        except VccidError:
            await self.frontends.apply(self._settings)
            raise
        self._settings = settings
        self._inserter.apply(settings)
        await self.readers.apply(settings)
        await self._show_files()
        await self._persistence.keep_or_warn("")

    async def stop(self) -> None:
        """Close every reader; what was in stays noted."""
        others = [other for other in (self._file_view, self.far_cards) if other is not None]
        await take_all_async(*(other.stop for other in others), self._close_all)

    async def _close_all(self) -> None:
        await self.readers.let_all_go()
        self.frontends.stop()

    # -- what a user asks for --------------------------------------------------------------

    async def insert(
        self,
        name: str | None,
        wanted: CardSource | None,
        password: bytes | None,
        pin: bytes | None,
        label: str | None = None,
    ) -> Inserted:
        """Put a card in, made or real; without `wanted`, what was last put in there.

        Args:
            label: what programs shall see the reader by from now on, "" for what the settings say.

        Raises:
            ReaderError: no such reader, it is full, nothing was ever put in, or a secret
                came with a real card.
            KeySourceError, StateError, VccidError: the card cannot be made.
        """
        inserted = await self._inserter.insert(
            self.readers.find(name), wanted, password, pin, label
        )
        lost = "the card will not be back after a restart"
        inserted.warnings.extend(await self._persistence.keep_or_warn(lost))
        return inserted

    async def remove(self, name: str | None) -> tuple[ManagedReader, int, list[str]]:
        """Take the card out, or forget the one that could not be put back.

        Returns:
            The reader, its generation then, and warnings.

        Raises:
            ReaderError: no such reader, or nothing in it.
        """
        managed = self.readers.find(name)
        generation = await self._inserter.remove(managed)
        warnings = await self._persistence.keep_or_warn("the card will be back after a restart")
        return managed, generation, warnings

    async def add_reader(self, name: str) -> ManagedReader:
        """Add a reader that stays.

        Raises:
            ReaderError: the name is taken, or no name for a reader.
            StateError: it cannot be kept; it was not added.
            ConfigError: its frontends' places cannot be had.
        """
        if wrong := check_reader_name(name):
            raise ReaderError(f"{name!r} is no name for a reader", wrong)
        if name in self.readers.by_name:
            raise ReaderError(f"there is a reader {name} already", "vccidctl reader list")
        managed = await self.readers.add(name)
        try:
            await self._persistence.keep()
        except StateError:
            await self.readers.close(managed)
            raise
        return managed

    async def remove_reader(self, name: str) -> list[str]:
        """Remove a reader that was added at run time, and the card in it; returns warnings.

        Raises:
            ReaderError: there is none, or it is declared in the settings.
        """
        managed = self.readers.find(name)
        async with managed.attachments.lock:
            managed.check_there()
            _check_removable(managed)
            await self.readers.end(managed)
        return await self._persistence.keep_or_warn("the reader will be back after a restart")

    async def attach(
        self, name: str | None, attachment: Attachment
    ) -> tuple[ManagedReader, str, list[str]]:
        """Show a reader to one more kind of host, over restarts too.

        Returns:
            The reader, how that stands, and warnings.

        Raises:
            ReaderError: no such reader, or it is attached so already.
            ConfigError, NotPermitted: the place cannot be had.
        """
        managed = self.readers.find(name)
        async with managed.attachments.lock:
            managed.check_there()
            status = await managed.attachments.attach(self.readers.settled(managed, attachment))
        warnings = await self._persistence.keep_or_warn("it will not be attached after a restart")
        return managed, status, warnings

    async def detach(
        self, name: str | None, attachment: Attachment
    ) -> tuple[ManagedReader, list[str]]:
        """Show a reader there no longer; returns it, and warnings.

        Raises:
            ReaderError: no such reader, or it is not attached so.
        """
        managed = self.readers.find(name)
        async with managed.attachments.lock:
            managed.check_there()
            await managed.attachments.detach(self.readers.settled(managed, attachment))
        return managed, await self._persistence.keep_or_warn("it will be attached after a restart")

    # -- how things stand ------------------------------------------------------------------

    @property
    def problems(self) -> list[str]:
        """What is wrong with the daemon itself, one line each, for `vccidctl status`."""
        found = self._persistence.problems
        if self._file_view is not None and self._file_view.problem is not None:
            found.append(self._file_view.problem)
        return found

    def summary(self) -> str:
        """One line on how things stand."""
        cards = sum(managed.reader.card is not None for managed in self.readers.by_name.values())
        return f"{_count(len(self.readers.by_name), 'reader')}, {_count(cards, 'card')}"

    # -- how it is done ------------------------------------------------------------------------

    async def _take_far_cards(self, settings: Settings) -> None:
        """Listen for far cards as the settings want it."""
        if self.far_cards is None:
            if not (settings.far_cards.listen or settings.far_cards.vpcd):
                return
            from vccid.readers.far_cards import FarCardListeners, ReaderPool

            pool = ReaderPool(
                self.readers.by_name.__contains__,
                self.readers.add_transient,
                self.readers.close_transient,
            )
            self.far_cards = FarCardListeners(pool)
        await self.far_cards.apply(settings.far_cards, settings.guests)

    async def _show_files(self) -> None:
        """Mount the file view as the settings want it; the control socket is open by now."""
        if self._file_view is None:
            if not self._settings.file_view.mount:
                return
            from vccid.readers.mount_child import FileViewKeeper

            self._file_view = FileViewKeeper(self._control)
        await self._file_view.apply(self._settings.file_view)

    async def _restore(self, managed: ManagedReader) -> None:
        await asyncio.gather(self.readers.reattach(managed), self._inserter.put_back(managed))


def _check_removable(managed: ManagedReader) -> None:
    if managed.transient:
        raise ReaderError(
            f"reader {managed.name} belongs to a far card", "it goes when the far end hangs up"
        )
    if managed.declared:
        raise ReaderError(
            f"reader {managed.name} belongs to the settings",
            f"write [reader.{managed.name}] enabled = false there, and systemctl reload vccid",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
