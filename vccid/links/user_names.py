# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users by number and by name, for a loop that must not wait for them.

What knows them may be a server far away (nsswitch.conf(5)), which is silent for seconds when it
is not there. So a thread of its own asks, and what it heard is kept for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import pwd
import queue
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Seconds an answer is good for; what is older is told until there is a newer one.
FRESH: Final = 10.0

#: Answers that are kept, and questions that may be open; who asks more goes without.
MOST_KNOWN: Final = 256
MOST_OPEN: Final = 16

#: No user's number: (uid_t) -1 is for "unchanged" (chown(2)).
UNKNOWN: Final = -1

#: Seconds for which a message waits for a name.
PATIENCE: Final = 1.0


class Lookup(Generic[K, V]):
    """One kind of question. For one loop's thread; without a loop it is asked at once."""

    def __init__(self, ask: Callable[[K], V], otherwise: Callable[[K], V]) -> None:
        """
        Args:
            ask: finds the answer; may block.
            otherwise: what to tell while there is none.
        """
        self._ask = ask
        self._otherwise = otherwise
        #: with when it was heard
        self._known: dict[K, tuple[V, float]] = {}
        self._open: dict[K, asyncio.Future[None]] = {}

    def get(self, key: K) -> V:
        """The answer as far as it is known; if it is not, it will be."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._ask(key)
        answer, heard = self._known.get(key, (None, float("-inf")))
        if time.monotonic() - heard > FRESH:
            self._begin(loop, key)
        return self._known[key][0] if key in self._known else self._otherwise(key)

    async def wait(self, key: K, seconds: float = PATIENCE) -> V:
        """The answer, or what is told without one after so many seconds."""
        told = self.get(key)
        if key in self._known or key not in self._open:
            return told
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._open[key])
        return self.get(key)

    def _begin(self, loop: asyncio.AbstractEventLoop, key: K) -> None:
        asked = self._open.get(key)
        if asked is not None and asked.get_loop() is loop:
            return
        if len(self._open) >= MOST_OPEN:
            return

        def work() -> None:
            answer = self._ask(key)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._heard, key, answer)

        if _thread.do(work):
            self._open[key] = loop.create_future()

    def _heard(self, key: K, answer: V) -> None:
        self._known.pop(key, None)
        while len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key] = (answer, time.monotonic())
        asked = self._open.pop(key, None)
        if asked is not None and not asked.done():
            asked.set_result(None)


class _Thread:
    """Does one thing after the other; a daemon that ends does not wait for it."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], None]) -> bool:
        """Have it done soon; False where there is no thread to be had."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="vccid-names", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        self._work.put(work)
        return True

    def _run(self) -> None:
        while True:
            self._work.get()()


_thread: Final = _Thread()


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)


def _id_of(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, OSError):
        return None


#: A user's name; the number where it has none, or none is known yet.
names: Final[Lookup[int, str]] = Lookup(_name_of, str)

#: A user's number; None where there is no such user, UNKNOWN while that is not known yet.
numbers: Final[Lookup[str, int | None]] = Lookup(_id_of, lambda name: UNKNOWN)
