# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host at a time for a card that has one security state: a real one, or a far one.

A host owns the card from power-on until it powers it off, the card is gone, or it has
sent nothing for the idle time and another host asks for the card.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable

from vccid.card.card import Session
from vccid.errors import CardBusy, CardRemoved


class Ownership:
    """Who has the card."""

    def __init__(self, label: str, idle: float) -> None:
        """`label` names the card in a message; `idle` is in seconds."""
        self._label = label
        self._idle = idle
        self._owner: OwnedSession | None = None

    def take(self, session: OwnedSession) -> None:
        """Give the card to `session`; an idle owner loses it.

        Raises:
            CardBusy: its owner is at work, or was a moment ago.
        """
        owner = self._owner
        if owner is not None:
            if owner.idle_seconds() < self._idle:
                raise CardBusy(
                    f"{self._label} is in use by another host",
                    f"it becomes free when that host powers it off or is idle for "
                    f"{self._idle:g} s",
                )
            owner.close()
        self._owner = session

    def end(self) -> None:
        """The card is gone: end the session there is."""
        if self._owner is not None:
            self._owner.close()

    def release(self, session: OwnedSession) -> None:
        """`session` is over."""
        if self._owner is session:
            self._owner = None


class OwnedSession(Session):
    """A session whose every command waits for something elsewhere."""

    def __init__(self, ownership: Ownership, atr: bytes) -> None:
        self._ownership = ownership
        self._atr = atr
        self._loop = asyncio.get_running_loop()
        self._used = self._loop.time()
        self._answer: asyncio.Future[bytes] | None = None
        self._over = False

    @property
    def atr(self) -> bytes:
        return self._atr

    def idle_seconds(self) -> float:
        """Since the last command or answer; 0 while one is awaited."""
        if self._answer is not None and not self._answer.done():
            return 0.0
        return self._loop.time() - self._used

    def execute(self, command: bytes) -> Awaitable[bytes]:
        if self._over:
            raise CardRemoved("the session is over")
        answer: asyncio.Future[bytes] = self._loop.create_future()
        answer.add_done_callback(self._done)
        self._answer = answer
        self._begin(command, answer)
        return answer

    def close(self) -> None:
        if self._over:
            return
        self._over = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(CardRemoved("the session ended"))
        self._ownership.release(self)
        self._ended()

    def _done(self, answer: asyncio.Future[bytes]) -> None:
        self._used = self._loop.time()
        if not answer.cancelled():
            answer.exception()  # whoever asked may be gone

    @abstractmethod
    def _begin(self, command: bytes, answer: asyncio.Future[bytes]) -> None:
        """Have the command run; `answer` may be done already when its answer comes."""

    @abstractmethod
    def _ended(self) -> None:
        """The session is over; another may begin."""
