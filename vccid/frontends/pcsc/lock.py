# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose a card is for a while: a transaction, or EXCLUSIVE; and who is next. Pure.

pcscd has no queue: whoever asks first after the end has it. Ours is in order of arrival, also
for those who have been sent away to ask again, which is what libpcsclite does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

H = TypeVar("H")


@dataclass(slots=True, eq=False)
class _Place(Generic[H]):
    """One in the queue; away where there is nobody to be told."""

    holder: H
    granted: Callable[[], None] | None


class Lock(Generic[H]):
    """A lock with a depth, and a queue.

    Attributes:
        owner: who holds a transaction, or does one thing that another's kept waiting.
        depth: how often the owner has begun.
        exclusive: who is connected EXCLUSIVE.
    """

    def __init__(self) -> None:
        self.owner: H | None = None
        self.depth = 0
        self.exclusive: H | None = None
        self._queue: list[_Place[H]] = []
        self._advancing = False

    def bars(self, holder: H) -> bool:
        """Whether somebody else has the card."""
        owner, exclusive = self.owner, self.exclusive
        return (owner is not None and owner is not holder) or (
            exclusive is not None and exclusive is not holder
        )

    def is_behind(self, holder: H) -> bool:
        """Whether somebody else was here before: who begins anew lets them."""
        return (
            self.owner is not holder and bool(self._queue) and self._queue[0].holder is not holder
        )

    def begin(self, holder: H) -> None:
        """Take it once more; to be asked when it bars nobody."""
        self._forget_place(holder)
        self.owner = holder
        self.depth += 1

    def end(self, holder: H) -> None:
        """Give it back once."""
        if self.owner is not holder:
            return
        self.depth -= 1
        if self.depth == 0:
            self.owner = None
            self.advance()

    def let_go(self, holder: H) -> None:
        """Give back everything: its handle is closed."""
        self._forget_place(holder)
        if self.exclusive is holder:
            self.exclusive = None
        if self.owner is holder:
            self.owner, self.depth = None, 0
        self.advance()

    def drop(self) -> None:
        """The card is gone, and with it what was begun; EXCLUSIVE stays."""
        self.owner, self.depth = None, 0
        self.advance()

    def queue(self, holder: H, granted: Callable[[], None]) -> None:
        """Wait until it is ours, at the place we have or behind all others."""
        for place in self._queue:
            if place.holder is holder:
                place.granted = granted
                break
        else:
            self._queue.append(_Place(holder, granted))
        self.advance()

    def send_away(self, holder: H) -> None:
        """It waits no longer, and keeps its place until `forget`."""
        for place in self._queue:
            if place.holder is holder:
                place.granted = None

    def forget(self, holder: H) -> None:
        """It has not come back."""
        if any(place.holder is holder and place.granted is None for place in self._queue):
            self._forget_place(holder)
            self.advance()

    def leave_queue(self, holder: H) -> None:
        """It does not want it any more."""
        self._forget_place(holder)
        self.advance()

    def advance(self) -> None:
        """Give it to those who are next, as long as it is free."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._queue and self.owner is None:
                first = self._queue[0]
                if first.granted is None or self.bars(first.holder):
                    return
                self._queue.pop(0)
                self.owner, self.depth = first.holder, 1
                first.granted()
        finally:
            self._advancing = False

    def _forget_place(self, holder: H) -> None:
        self._queue = [place for place in self._queue if place.holder is not holder]
