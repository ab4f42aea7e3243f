# SPDX-License-Identifier: LGPL-2.1-or-later
"""Those who are told of everything that happens to the readers."""

from __future__ import annotations

import asyncio
from typing import Final

from vccid.reader import Event

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
