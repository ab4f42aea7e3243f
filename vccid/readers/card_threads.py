# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads for what blocks: each card has its few, so a slow token holds up no other card."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar
from weakref import WeakSet

from vccid.process.threads import Threads

T = TypeVar("T")

#: A card's hosts seldom use its keys at once; threads start only when they do.
THREADS_PER_CARD: Final = 4

_PREFIX: Final = "vccid-card"
_pools: WeakSet[ThreadPoolExecutor] = WeakSet()


class CardThreads:
    """A card's `Offload`. Its threads end by themselves once nothing refers to it."""

    def __init__(self) -> None:
        self._pool = Threads(THREADS_PER_CARD, thread_name_prefix=_PREFIX)
        _pools.add(self._pool)

    def __call__(self, function: Callable[[], T]) -> Awaitable[T]:
        """Run `function` in a thread; cancelling the awaitable does not stop it."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function)


def finish(seconds: float) -> bool:
    """Let every card's threads end; False where one is still inside a module after `seconds`."""
    for pool in tuple(_pools):
        pool.shutdown(wait=False, cancel_futures=True)
    deadline = time.monotonic() + seconds
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_PREFIX)]
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
