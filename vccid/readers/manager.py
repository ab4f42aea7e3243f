# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's readers, and everything that may be done to them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vccid.errors import ReaderError, StateError, VccidError
from vccid.process.cleanup import take_all_async
from vccid.reader import Event, Reader
from vccid.readers.attachments import KEEPS_PLACE, Attachment, place_for
from vccid.readers.card_maker import CardMaker
from vccid.readers.event_watchers import Watcher
from vccid.readers.frontend_maker import FrontendMaker
from vccid.readers.insertion import Inserted, Inserter
from vccid.readers.managed_reader import ManagedReader
from vccid.readers.persistence import Persistence
from vccid.readers.reader_states import Event as Reason
from vccid.readers.readers_json import CardSource
from vccid.readers.serial_numbers import SerialNumbers
from vccid.settings.config import DEFAULT_READER, ReaderSettings, Settings, check_reader_name
from vccid.settings.directories import Directories

if TYPE_CHECKING:
    from vccid.readers.far_cards import FarCardListeners
    from vccid.readers.mount_child import FileViewKeeper

log = logging.getLogger(__name__)

#: Seconds after its start in which the daemon has better things to do than to prepare.
_IDLE: Final = 1.0


class ReaderManager:
    """All readers.

    Attributes:
        managed_readers: by reader's name.
        far_cards: the listeners for cards from elsewhere, once the settings wanted one.
        frontends: makes what shows them to hosts.
        generation: how often a reader or a card came or went.
        changed: called after anything that `summary` tells has changed.
    """

    def __init__(
        self, directories: Directories, settings: Settings, control: Path | None = None
    ) -> None:
        """`control` is where the daemon's control socket is, if not in its directory."""
        self.managed_readers: dict[str, ManagedReader] = {}
        self.generation = 0
        self.changed: Callable[[], None] = lambda: None
        self._control = control or directories.control
        self._settings = settings
        self._persistence = Persistence(directories.state, self.managed_readers)
        serials = SerialNumbers(directories.state)
        self._inserter = Inserter(CardMaker(directories, settings.pkcs11), serials, settings)
        self.frontends = FrontendMaker(directories.runtime, serials, settings)
        self.far_cards: FarCardListeners | None = None
        self._file_view: FileViewKeeper | None = None
        self._watchers: set[Watcher] = set()

    # -- life ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the readers, all empty.

        Raises:
            ConfigError: a frontend's place cannot be had.
        """
        entries = self._persistence.load()
        for name, settings in self._settings.readers.items():
            await self._open(name, settings, Reason.DECLARE)
        for name, entry in entries.items():
            if name not in self.managed_readers and entry.added:
                await self._open(name, self._usual(), Reason.ADD)
            if name in self.managed_readers:
                await self.managed_readers[name].recall(entry)
        await self._take_far_cards(self._settings)

    async def restore(self) -> None:
        """Put back each card and attach each reader as before; none holds up another."""
        await self._show_files()
        await asyncio.gather(*map(self._restore, self.managed_readers.values()))

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
        gone = [
            s
            for s in self.managed_readers.values()
            if s.declared and s.name not in settings.readers
        ]
        for managed in gone:
            await self._close(managed)
        for name, wanted in settings.readers.items():
            try:
                await self._declare(name, wanted)
            except VccidError as error:
                log.error("%s; %s", error.message, error.hint, extra={"reader": name})
            except Exception:
                log.exception("the settings of a reader failed", extra={"reader": name})
        await self._apply_to_undeclared()
        await self._show_files()
        await self._persistence.keep_or_warn("")

    async def stop(self) -> None:
        """Close every reader; what was in stays noted."""
        others = [other for other in (self._file_view, self.far_cards) if other is not None]
        await take_all_async(*(other.stop for other in others), self._close_all)

    async def _close_all(self) -> None:
        await asyncio.gather(*(managed.close() for managed in self.managed_readers.values()))
        self.frontends.stop()

    # -- what a user asks for --------------------------------------------------------------

    def managed(self, name: str | None) -> ManagedReader:
        """A reader by name; without a name, the only one or else the default one.

        Raises:
            ReaderError: there is none.
        """
        if name is None:
            name = (
                next(iter(self.managed_readers))
                if len(self.managed_readers) == 1
                else DEFAULT_READER
            )
        try:
            return self.managed_readers[name]
        except KeyError:
            known = ", ".join(sorted(self.managed_readers)) or "none"
            raise ReaderError(f"there is no reader {name}", f"the readers are: {known}") from None

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
        inserted = await self._inserter.insert(self.managed(name), wanted, password, pin, label)
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
        managed = self.managed(name)
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
        if name in self.managed_readers:
            raise ReaderError(f"there is a reader {name} already", "vccidctl reader list")
        managed = await self._open(name, self._usual(), Reason.ADD)
        try:
            await self._persistence.keep()
        except StateError:
            await self._close(managed)
            raise
        return managed

    async def remove_reader(self, name: str) -> list[str]:
        """Remove a reader that was added at run time, and the card in it; returns warnings.

        Raises:
            ReaderError: there is none, or it is declared in the settings.
        """
        managed = self.managed(name)
        async with managed.attachments.lock:
            managed.check_there()
            _check_removable(managed)
            await self._end(managed)
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
        managed = self.managed(name)
        async with managed.attachments.lock:
            managed.check_there()
            status = await managed.attachments.attach(self._settled(managed, attachment))
        warnings = await self._persistence.keep_or_warn("it will not be attached after a restart")
        return managed, status, warnings

    async def detach(
        self, name: str | None, attachment: Attachment
    ) -> tuple[ManagedReader, list[str]]:
        """Show a reader there no longer; returns it, and warnings.

        Raises:
            ReaderError: no such reader, or it is not attached so.
        """
        managed = self.managed(name)
        async with managed.attachments.lock:
            managed.check_there()
            await managed.attachments.detach(self._settled(managed, attachment))
        return managed, await self._persistence.keep_or_warn("it will be attached after a restart")

    def _settled(self, managed: ManagedReader, attachment: Attachment) -> Attachment:
        """A terminal and a USB/IP export get their name when they are first attached.

        So reader.conf, and other hosts' scripts, can keep it.
        """
        kind = attachment.kind
        if kind not in KEEPS_PLACE or attachment.address:
            return attachment
        own = min((to for to in managed.attachments.kept if to.kind == kind), default=None)
        if own is not None:
            return own
        every = [other.attachments.taken for other in self.managed_readers.values()]
        taken = [to.address for to in frozenset().union(*every) if to.kind == kind]
        return replace(attachment, address=place_for(kind, managed.name, taken))

    # -- who looks -----------------------------------------------------------------------------

    def watch(self) -> Watcher:
        """Begin to be told of events, until `unwatch`."""
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """No more events."""
        self._watchers.discard(watcher)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the daemon itself, one line each, for `vccidctl status`."""
        found = self._persistence.problems
        if self._file_view is not None and self._file_view.problem is not None:
            found.append(self._file_view.problem)
        return found

    def summary(self) -> str:
        """One line on how things stand."""
        cards = sum(managed.reader.card is not None for managed in self.managed_readers.values())
        return f"{_count(len(self.managed_readers), 'reader')}, {_count(cards, 'card')}"

    def _publish(self, event: Event) -> None:
        level = logging.DEBUG if event.kind == "host-saw" else logging.INFO
        extra = {"reader": event.reader}
        if event.kind in ("card-inserted", "card-removed"):
            extra["card"] = event.detail
            log.log(level, "%s", event.kind, extra=extra)
        else:
            log.log(level, "%s", f"{event.kind} {event.detail}".rstrip(), extra=extra)
        if not event.kind.startswith("host-"):
            self.generation += 1
            if managed := self.managed_readers.get(event.reader):
                managed.changed = time.time()
        for watcher in self._watchers:
            watcher.put(event)
        self.changed()

    # -- how it is done ------------------------------------------------------------------------

    async def _take_far_cards(self, settings: Settings) -> None:
        """Listen for far cards as the settings want it."""
        if self.far_cards is None:
            if not (settings.far_cards.listen or settings.far_cards.vpcd):
                return
            from vccid.readers.far_cards import FarCardListeners, ReaderPool

            pool = ReaderPool(
                self.managed_readers.__contains__, self._open_transient, self._close_transient
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

    async def _open_transient(self, name: str) -> Reader:
        settings = self._usual()
        return (await self._open(name, settings, Reason.FAR_END_CAME)).reader

    async def _close_transient(self, name: str) -> None:
        await self._close(self.managed_readers[name])

    async def _open(self, name: str, settings: ReaderSettings, reason: Reason) -> ManagedReader:
        managed = ManagedReader(
            name,
            settings,
            reason,
            frontends=self.frontends,
            publish=self._publish,
            find=self.managed_readers.get,
        )
        managed.attachments.lost = self._persistence.keep_soon
        self.managed_readers[name] = managed
        async with managed.attachments.lock:
            try:
                await managed.apply(settings)
            except BaseException:
                self._forget(managed)
                raise
        self._publish(Event("reader-added", name))
        return managed

    async def _apply_to_undeclared(self) -> None:
        for managed in [s for s in self.managed_readers.values() if not s.declared]:
            async with managed.attachments.lock:
                if not managed.removed:
                    await managed.apply(self._usual())

    def _usual(self) -> ReaderSettings:
        """Of a reader that no table of the settings declares."""
        return ReaderSettings(pcsc=self._settings.pcsc.all)

    async def _declare(self, name: str, settings: ReaderSettings) -> None:
        managed = self.managed_readers.get(name)
        if managed is None:
            await self._open(name, settings, Reason.DECLARE)
            return
        async with managed.attachments.lock:
            managed.check_there()
            managed.move(Reason.DECLARE)
            await managed.apply(settings)

    async def _close(self, managed: ManagedReader) -> None:
        async with managed.attachments.lock:
            if not managed.removed:
                await self._end(managed)

    async def _end(self, managed: ManagedReader) -> None:
        """Its frontends are locked. A card that is being made for it finds it gone."""
        self._forget(managed)
        await managed.close()
        self._publish(Event("reader-removed", managed.name))

    def _forget(self, managed: ManagedReader) -> None:
        del self.managed_readers[managed.name]
        managed.move(Reason.END)

    async def _restore(self, managed: ManagedReader) -> None:
        await asyncio.gather(self._reattach(managed), self._inserter.put_back(managed))

    async def _reattach(self, managed: ManagedReader) -> None:
        async with managed.attachments.lock:
            if managed.removed:
                return
            failed = await managed.attachments.reattach()
        for attachment, error in failed.items():
            log.warning(
                "it could not be attached to %s again: %s; %s",
                attachment,
                error.message,
                error.hint,
                extra={"reader": managed.name},
            )


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
