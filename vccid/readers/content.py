# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was put into one reader: is in it, follows a real card into it, or could not be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vccid.errors import VccidError
from vccid.process.cleanup import take_all_async
from vccid.reader import Reader
from vccid.readers.content_states import CONTENT, Event, State
from vccid.readers.readers_json import CardSource

if TYPE_CHECKING:
    from vccid.backends.pcsc import Follower


class Content:
    """What users and restarts put into a reader; whoever changes it holds `lock`.

    Attributes:
        lock: held while a card goes in or out.
        source: what is in, or would be but for `problem`; kept over restarts.
        last_source: what was in last, for an insert that names nothing.
        follower: what puts a real card in while it is there.
        problem: why the card that is wanted is not in.
    """

    def __init__(self, reader: Reader) -> None:
        self.lock = asyncio.Lock()
        self.source: CardSource | None = None
        self.last_source: CardSource | None = None
        self.follower: Follower | None = None
        self.problem: VccidError | None = None
        self._reader = reader
        self._state = CONTENT.initial

    @property
    def is_followed(self) -> bool:
        """Whether a real card comes and goes here."""
        return self._state is State.FOLLOWED

    @property
    def is_awaited(self) -> bool:
        """Whether something was put in, and is not in."""
        return self._state in (State.DUE, State.FAILED)

    def recall(self, source: CardSource | None) -> None:
        """What was in before a restart is to be again."""
        if source is not None:
            self._move(Event.RECALLED)
            self.source = source

    def made(self, source: CardSource) -> None:
        """A card made of it is in."""
        self._put_in(Event.MAKE, source)

    def followed(self, source: CardSource, follower: Follower) -> None:
        """Its real card comes and goes here now."""
        self._put_in(Event.FOLLOW, source)
        self.follower = follower

    def failed(self, problem: VccidError) -> None:
        """It could not be put back, or what its card is made of is gone."""
        self._move(Event.FAILED)
        self.problem = problem

    async def remove(self) -> None:
        """Take out what is in, or forget what could not be put back.

        Raises:
            ReaderError: nothing is in it.
        """
        if self.is_followed:
            await self._unfollow()
        elif self._reader.card is not None or self._state is not State.FAILED:
            self._reader.remove()
        self._move(Event.REMOVE)
        self.source = self.problem = None

    async def close(self) -> None:
        """Let it leave the reader; it stays what is to be put back. May be repeated."""
        self._move(Event.CLOSE)
        await take_all_async(self._unfollow, self._take_out)

    def _take_out(self) -> None:
        if self._reader.card is not None:
            self._reader.remove()

    async def _unfollow(self) -> None:
        follower, self.follower = self.follower, None
        if follower is not None:
            await follower.stop()

    def _put_in(self, event: Event, source: CardSource) -> None:
        self._move(event)
        self.source = self.last_source = source
        self.problem = None

    def _move(self, event: Event) -> None:
        self._state = CONTENT.after(self._state, event)
