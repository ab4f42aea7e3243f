# SPDX-License-Identifier: LGPL-2.1-or-later
"""One at a time at a card: asyncio's Lock, which can also be taken without waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Turns:
    """In order of arrival; `async with` waits for its turn.

    Attributes:
        taken: somebody is at the card; who finds it free may set it.
    """

    def __init__(self) -> None:
        self.taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for our turn, which is over with `leave`."""
        if not self.taken:
            self.taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.leave()  # it had just become ours
            raise

    def leave(self) -> None:
        """The turn is over; the next one has it at once."""
        while self._waiting:
            next_one = self._waiting.popleft()
            if not next_one.done():
                next_one.set_result(None)
                return
        self.taken = False

    async def __aenter__(self) -> None:
        await self.enter()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
