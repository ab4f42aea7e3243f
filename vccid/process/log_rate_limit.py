# SPDX-License-Identifier: LGPL-2.1-or-later
"""Log lines that a stranger can cause: so many of each, however often it asks for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

#: Lines of one peer that are written at once, and how long it takes until one more is, in seconds.
BURST: Final = 20
PAUSE: Final = 6.0

#: Peers whose lines are counted apart; those of all others are counted together.
MOST_PEERS: Final = 64


@dataclass
class _Count:
    """What one peer may still say.

    Attributes:
        left: lines.
        at: when that was so, in seconds.
        dropped: lines not written since the last that was.
    """

    left: float
    at: float
    dropped: int = 0


class LogRateLimit:
    """One kind of peer's lines in the log."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._log = log
        self._clock = clock
        self._counts: dict[Hashable, _Count] = {}

    def tell(self, who: Hashable, level: int, text: str, *arguments: object, **extra: Any) -> None:
        """Log a line, if this peer has not had its share.

        Args:
            who: tells peers apart.
            extra: as in `logging`.
        """
        count = self._count(who)
        if count.left < 1:
            count.dropped += 1
            return
        count.left -= 1
        if count.dropped:
            text += " (%d lines like this were left out before)"
            arguments = (*arguments, count.dropped)
            count.dropped = 0
        self._log.log(level, text, *arguments, extra=extra)

    def _count(self, who: Hashable) -> _Count:
        now = self._clock()
        if who not in self._counts and len(self._counts) >= MOST_PEERS:
            self._forget(now)
        if who not in self._counts and len(self._counts) >= MOST_PEERS:
            who = None
        count = self._counts.setdefault(who, _Count(BURST, now))
        count.left = min(BURST, count.left + (now - count.at) / PAUSE)
        count.at = now
        return count

    def _forget(self, now: float) -> None:
        """Those who have been silent for so long that they are as good as new."""
        full = BURST * PAUSE
        self._counts = {who: count for who, count in self._counts.items() if now - count.at < full}
