# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host's session with a card of ours: a row of processors, and how long it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from vccid.card.card import Session
from vccid.card.processors import Answer, Process
from vccid.errors import CardRemoved, RemoteProtocolError
from vccid.iso7816 import status
from vccid.iso7816.apdu import Command

T = TypeVar("T")

_parse = Command.parse  # looked up once, not for every APDU


class Lifetime:
    """How long a session lasts; work that is waited for does not outlive it.

    Attributes:
        over: whether the session was closed.
    """

    def __init__(self) -> None:
        self.over = False
        self._waiting: asyncio.Future[None] | None = None

    def end(self) -> None:
        """Close: whoever waits gets CardRemoved."""
        self.over = True
        if self._waiting is not None:
            _wake(self._waiting)

    async def wait_for(self, work: Awaitable[T]) -> T:
        """Wait for blocking work, but no longer than the session lasts.

        Raises:
            CardRemoved: the session was closed meanwhile.
        """
        task = asyncio.ensure_future(work)
        self._waiting = waiting = task.get_loop().create_future()
        task.add_done_callback(lambda done: _wake(waiting))
        try:
            await waiting
            if self.over:
                raise CardRemoved("the card was removed during a command")
            return task.result()
        finally:
            self._waiting = None
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.exception()  # asked for, so that asyncio does not log it as forgotten


class CardSession(Session):
    """A session with a card of ours, from power-on on."""

    def __init__(self, atr: bytes, row: Process, lifetime: Lifetime) -> None:
        """Power on.

        Args:
            atr: answer to reset.
            row: the processors, with nothing selected, verified or unfinished.
            lifetime: what the applications in the row wait by.
        """
        self._atr = atr
        self._row = row
        self._lifetime = lifetime

    @property
    def atr(self) -> bytes:
        return self._atr

    def execute(self, command: bytes) -> Answer:
        try:
            parsed = _parse(command)
        except RemoteProtocolError:
            if self._lifetime.over:
                return _removed(None)
            return status.WRONG_LENGTH
        return self._row(parsed)

    def close(self) -> None:
        self._row = _removed  # what was selected, verified or unfinished goes with the old one
        self._lifetime.end()


def _removed(command: Command | None) -> Answer:
    raise CardRemoved("the session with the card is over")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
