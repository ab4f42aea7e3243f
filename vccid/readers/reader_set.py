# SPDX-License-Identifier: LGPL-2.1-or-later
"""The readers there are: how they come, change and go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from vccid.errors import ReaderError, VccidError
from vccid.reader import Event, Reader
from vccid.readers.attachments import KEEPS_PLACE, Attachment, place_for
from vccid.readers.event_watchers import ReaderEvents
from vccid.readers.frontend_maker import FrontendMaker
from vccid.readers.managed_reader import ManagedReader
from vccid.readers.reader_states import Event as Reason
from vccid.settings.config import DEFAULT_READER, ReaderSettings, Settings

log = logging.getLogger(__name__)


class ReaderSet:
    """All readers of the daemon.

    Attributes:
        by_name: those there are.
        settings: the daemon's, for readers that no table of them declares.
        lost: called when the other end of an attachment let go by itself.
    """

    def __init__(self, frontends: FrontendMaker, events: ReaderEvents, settings: Settings) -> None:
        self.by_name: dict[str, ManagedReader] = {}
        self.settings = settings
        self.lost: Callable[[], None] = lambda: None
        self._frontends = frontends
        self._events = events

    def find(self, name: str | None) -> ManagedReader:
        """A reader by name; without a name, the only one or else the default one.

        Raises:
            ReaderError: there is none.
        """
        if name is None:
            name = next(iter(self.by_name)) if len(self.by_name) == 1 else DEFAULT_READER
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise ReaderError(f"there is no reader {name}", f"the readers are: {known}") from None

    # -- coming ------------------------------------------------------------------------------

    async def add(self, name: str) -> ManagedReader:
        """Add one that no table of the settings declares.

        Raises:
            ConfigError: its frontends' places cannot be had.
        """
        return await self._open(name, self._usual(), Reason.ADD)

    async def add_transient(self, name: str) -> Reader:
        """Add one for a far card.

        Raises:
            ConfigError: as `add`.
        """
        return (await self._open(name, self._usual(), Reason.FAR_END_CAME)).reader

    async def declare(self, name: str, settings: ReaderSettings) -> None:
        """Have one as a table of the settings wants it.

        Raises:
            ConfigError: as `add`.
            ReaderError: it was removed meanwhile.
        """
        managed = self.by_name.get(name)
        if managed is None:
            await self._open(name, settings, Reason.DECLARE)
            return
        async with managed.attachments.lock:
            managed.check_there()
            managed.move(Reason.DECLARE)
            await managed.apply(settings)

    async def _open(self, name: str, settings: ReaderSettings, reason: Reason) -> ManagedReader:
        managed = ManagedReader(
            name,
            settings,
            reason,
            frontends=self._frontends,
            publish=self._publish,
            find=self.by_name.get,
        )
        managed.attachments.lost = lambda: self.lost()
        self.by_name[name] = managed
        async with managed.attachments.lock:
            try:
                await managed.apply(settings)
            except BaseException:
                self._forget(managed)
                raise
        self._publish(Event("reader-added", name))
        return managed

    def _usual(self) -> ReaderSettings:
        """Of a reader that no table of the settings declares."""
        return ReaderSettings(pcsc=self.settings.pcsc.all)

    # -- staying -----------------------------------------------------------------------------

    async def apply(self, settings: Settings) -> None:
        """Have readers as the settings want them; one that cannot keeps back no other."""
        self.settings = settings
        for managed in self._declared(but=settings.readers):
            await self.close(managed)
        for name, wanted in settings.readers.items():
            try:
                await self.declare(name, wanted)
            except VccidError as error:
                log.error("%s; %s", error.message, error.hint, extra={"reader": name})
            except Exception:
                log.exception("the settings of a reader failed", extra={"reader": name})
        for managed in [one for one in self.by_name.values() if not one.declared]:
            async with managed.attachments.lock:
                if not managed.removed:
                    await managed.apply(self._usual())

    def _declared(self, but: Iterable[str]) -> list[ManagedReader]:
        return [one for one in self.by_name.values() if one.declared and one.name not in but]

    async def reattach(self, managed: ManagedReader) -> None:
        """Attach one as before a restart."""
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

    def settled(self, managed: ManagedReader, attachment: Attachment) -> Attachment:
        """A terminal and a USB/IP export get their name when they are first attached.

        So reader.conf, and other hosts' scripts, can keep it.
        """
        kind = attachment.kind
        if kind not in KEEPS_PLACE or attachment.address:
            return attachment
        own = min((to for to in managed.attachments.kept if to.kind == kind), default=None)
        if own is not None:
            return own
        every = [other.attachments.taken for other in self.by_name.values()]
        taken = [to.address for to in frozenset().union(*every) if to.kind == kind]
        return replace(attachment, address=place_for(kind, managed.name, taken))

    def _publish(self, event: Event) -> None:
        if not event.kind.startswith("host-") and (managed := self.by_name.get(event.reader)):
            managed.changed = time.time()
        self._events.publish(event)

    # -- going -------------------------------------------------------------------------------

    async def close(self, managed: ManagedReader) -> None:
        """Remove one, unless that was done."""
        async with managed.attachments.lock:
            if not managed.removed:
                await self.end(managed)

    async def close_transient(self, name: str) -> None:
        """The far card's end is gone."""
        await self.close(self.by_name[name])

    async def end(self, managed: ManagedReader) -> None:
        """Its attachments are locked. A card that is being made for it finds it gone."""
        self._forget(managed)
        await managed.close()
        self._publish(Event("reader-removed", managed.name))

    async def let_all_go(self) -> None:
        """Take out every card and let every host go; the readers stay noted."""
        await asyncio.gather(*(managed.close() for managed in self.by_name.values()))

    def _forget(self, managed: ManagedReader) -> None:
        del self.by_name[managed.name]
        managed.move(Reason.END)
