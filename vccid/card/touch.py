# SPDX-License-Identifier: LGPL-2.1-or-later
"""The touch some keys want, of a card that nobody can touch."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Final

#: Seconds a key waits for a touch, and a touch is good for where a key remembers it.
WAIT: Final = 15.0


class TouchMode(Enum):
    """Who touches a card."""

    ALWAYS = "always"  # somebody, as soon as it is asked for
    NEVER = "never"  # nobody
    ASK = "ask"  # a user, with `vccidctl touch`


class Touch:
    """The place to touch.

    Attributes:
        mode: who touches it.
        patience: seconds it is waited for.
    """

    def __init__(self, mode: TouchMode = TouchMode.ALWAYS, patience: float = WAIT) -> None:
        self.mode = mode
        self.patience = patience
        self._waiting: set[asyncio.Future[None]] = set()
        self._asked = asyncio.Event()
        self._last: float | None = None

    async def wait(self, *, remembered: bool = False) -> bool:
        """Wait for a touch; False where none came in time.

        Args:
            remembered: whether one of the last seconds is good enough.
        """
        loop = asyncio.get_running_loop()
        if self.mode is TouchMode.ALWAYS:
            return True
        if remembered and self._last is not None and loop.time() - self._last < self.patience:
            return True
        touched: asyncio.Future[None] = loop.create_future()
        self._waiting.add(touched)
        self._asked.set()
        try:
            async with asyncio.timeout(self.patience):
                await touched
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(touched)
            if not self._waiting:
                self._asked.clear()
        self._last = loop.time()
        return True

    async def press(self, patience: float) -> bool:
        """Touch, once something waits for it; False where nothing did within `patience` seconds."""
        if self.mode is TouchMode.NEVER:
            return False
        if not self._waiting and patience > 0:
            try:
                async with asyncio.timeout(patience):
                    await self._asked.wait()
            except TimeoutError:
                return False
        waiting = [touched for touched in self._waiting if not touched.done()]
        for touched in waiting:
            touched.set_result(None)
        return bool(waiting)
