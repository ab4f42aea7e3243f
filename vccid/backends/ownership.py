# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host at a time for a card that has one security state: a real one, or a far one.

A host owns the card from power-on until it powers it off, the card is gone, or it has
sent nothing for the idle time and another host asks for the card.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable

from vccid.backends.ownership_states import OWNERSHIP, Event, State
from vccid.card.card import Session
from vccid.errors import CardBusy, CardRemoved


class Ownership:
    """Who has the card.

    Attributes:
        state: as the table in vccid.backends.ownership_states has it.
    """

    def __init__(self, label: str, idle: float) -> None:
        """`label` names the card in a message; `idle` is in seconds."""
        self.state = OWNERSHIP.initial
        self._label = label
        self._idle = idle
        self._owner: OwnedSession | None = None
        self._used = 0.0

    def take(self, session: OwnedSession) -> None:
        """Give the card to `session`; an idle owner loses it.

        Raises:
            CardBusy: its owner is at work, or was a moment ago.
        """
        now = asyncio.get_running_loop().time()
        if self.state is State.AT_WORK or (
            self.state is State.OWNED and now - self._used < self._idle
        ):
            raise CardBusy(
                f"{self._label} is in use by another host",
                f"it becomes free when that host powers it off or is idle for {self._idle:g} s",
            )
        self.end()
        self._move(Event.TAKEN)
        self._owner = session
        self._used = now

    def end(self) -> None:
        """The card is gone, or another host's: end the session there is."""
        if self._owner is not None:
            self._owner.close()

    def has(self, session: OwnedSession) -> bool:
        """Whether the card is that session's."""
        return self._owner is session

    def asked(self) -> None:
        """The owner sent a command."""
        self._move(Event.COMMAND)

    def answered(self) -> None:
        """The owner's last command is answered."""
        self._move(Event.ANSWERED)
        self._used = asyncio.get_running_loop().time()

    def release(self) -> None:
        """The owner's session is over."""
        self._move(Event.ENDED)
        self._owner = None

    def _move(self, event: Event) -> None:
        self.state = OWNERSHIP.after(self.state, event)


class OwnedSession(Session):
    """A session whose every command waits for something elsewhere."""

    def __init__(self, ownership: Ownership, atr: bytes) -> None:
        self._ownership = ownership
        self._atr = atr
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def atr(self) -> bytes:
        return self._atr

    def execute(self, command: bytes) -> Awaitable[bytes]:
        return self._ask(lambda answer: self._begin(command, answer))

    def _ask(self, begin: Callable[[asyncio.Future[bytes]], None]) -> asyncio.Future[bytes]:
        """Have `begin` ask the card; the owner is at work until its answer is done.

        Raises:
            CardRemoved: the session is over.
        """
        if not self._ownership.has(self):
            raise CardRemoved("the session is over")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(self._done)
        self._answer = answer
        self._ownership.asked()
        begin(answer)
        return answer

    def close(self) -> None:
        if not self._ownership.has(self):
            return
        self._ownership.release()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(CardRemoved("the session ended"))
        self._ended()

    def _done(self, answer: asyncio.Future[bytes]) -> None:
        if answer is self._answer and self._ownership.has(self):
            self._ownership.answered()
        if not answer.cancelled():
            answer.exception()  # whoever asked may be gone

    @abstractmethod
    def _begin(self, command: bytes, answer: asyncio.Future[bytes]) -> None:
        """Have the command run; `answer` may be done already when its answer comes."""

    @abstractmethod
    def _ended(self) -> None:
        """The session is over; another may begin."""
