# SPDX-License-Identifier: LGPL-2.1-or-later
"""Those who are told of everything that happens to the readers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from vccid.reader import Event

log = logging.getLogger(__name__)

#: Events a watcher may leave unread before it is let go.
MOST_UNREAD: Final = 1000


class Watcher:
    """One who is told of every event, in order.

    Attributes:
        overrun: whether events were lost because it did not keep up.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue(MOST_UNREAD)
        self.overrun = False

    async def next(self) -> Event:
        """The next event."""
        return await self._queue.get()

    def put(self, event: Event) -> None:
        """An event happened."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overrun = True


class ReaderEvents:
    """All events of all readers, each told to the log and to whoever watches.

    Attributes:
        generation: how often a reader or a card came or went.
        changed: called after each.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.changed: Callable[[], None] = lambda: None
        self._watchers: set[Watcher] = set()

    def watch(self) -> Watcher:
        """Begin to be told of events, until `unwatch`."""
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """No more events."""
        self._watchers.discard(watcher)

    def publish(self, event: Event) -> None:
        """One happened."""
        level = logging.DEBUG if event.kind == "host-saw" else logging.INFO
        extra = {"reader": event.reader}
        if event.kind in ("card-inserted", "card-removed"):
            extra["card"] = event.detail
            log.log(level, "%s", event.kind, extra=extra)
        else:
            log.log(level, "%s", f"{event.kind} {event.detail}".rstrip(), extra=extra)
        if not event.kind.startswith("host-"):
            self.generation += 1
        for watcher in self._watchers:
            watcher.put(event)
        self.changed()
