# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions with one PKCS#11 token, one for each operation: some modules crash on a shared one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vccid.errors import TokenGone
from vccid.keys.pkcs11_module import Module, Pkcs11Error
from vccid.keys.token_states import POOL, Pool, PoolEvent


class SessionPool:
    """A token's sessions; from any thread.

    Attributes:
        slot: where the token is.
        generation: grows each time the token was looked up; older handles are void.
    """

    def __init__(self, module: Module, name: str) -> None:
        """`name` is what to call the token in a message."""
        self.slot = 0
        self.generation = 0
        self._module = module
        self._name = name
        # Guards `_running` and `_state`; told when an operation ends.
        self._ended = threading.Condition()
        self._running = 0
        self._state = POOL.initial
        self._idle: deque[int] = deque()

    def open(self) -> None:
        """Let operations begin."""
        self._move(PoolEvent.OPENED)

    def close(self) -> None:
        """Let no more operations begin; returns once those under way have ended."""
        with self._ended:
            self._move(PoolEvent.CLOSE)
            self._ended.wait_for(lambda: self._running == 0)
            self._move(PoolEvent.DRAINED)

    def found(self, slot: int) -> None:
        """The token is in this slot now; sessions of before are not used again."""
        self.slot = slot
        self.generation += 1

    def drop(self) -> None:
        """Close what nobody uses at the moment."""
        while self._idle:
            self.discard(self._idle.pop())

    def discard(self, session: int) -> None:
        """Close a session, which may be void already."""
        with suppress(Pkcs11Error):
            self._module.close_session(session)

    @contextmanager
    def session(self) -> Iterator[int]:
        """A session for one operation; a failed one is not used again.

        Raises:
            TokenGone: the token was closed.
            Pkcs11Error: there is none to be had.
        """
        with self._ended:
            if self._state is not Pool.OPEN:
                raise TokenGone(f"{self._name} was closed, for its card was removed")
            self._running += 1
        try:
            generation = self.generation
            session = self._take()
            try:
                yield session
            except BaseException:
                self.discard(session)
                raise
            if generation == self.generation:
                self._idle.append(session)
            else:
                self.discard(session)
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    def _take(self) -> int:
        try:
            return self._idle.pop()
        except IndexError:
            return self._module.open_session(self.slot)

    def _move(self, event: PoolEvent) -> None:
        self._state = POOL.after(self._state, event)
