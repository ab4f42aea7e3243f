# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands for a card elsewhere whose answers have no number: one at a time, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class CommandQueue:
    """What is sent next, and whose the next answer is.

    Attributes:
        sent: how many commands were.
    """

    def __init__(
        self, send: Callable[[bytes], None], too_late: Callable[[], None], patience: float
    ) -> None:
        """
        Args:
            send: sends one command to the card.
            too_late: called when an answer took longer than `patience` seconds. One that comes
                still would be taken for another's, so the card is to be let go.
        """
        self.sent = 0
        self._send = send
        self._too_late = too_late
        self._patience = patience
        self._current: asyncio.Future[bytes] | None = None
        self._waiting: deque[tuple[bytes, asyncio.Future[bytes]]] = deque()
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is awaited."""
        return self._current is not None

    def run(self, command: bytes, answer: asyncio.Future[bytes]) -> None:
        """Have the card run a command, after those under way."""
        self._waiting.append((command, answer))
        if self._current is None:
            self._next()

    def answered(self, response: bytes) -> bool:
        """The card's answer to the command under way; False where nobody asked."""
        answer = self._finish()
        if answer is not None and not answer.done():
            answer.set_result(response)
        self._next()
        return answer is not None

    def clear(self) -> None:
        """The card is gone; whoever waits for an answer has heard of it by its session's end."""
        self._finish()
        self._waiting.clear()

    def _next(self) -> None:
        while self._waiting:
            command, answer = self._waiting.popleft()
            if answer.done():
                continue  # its session ended before its turn
            self._current = answer
            self.sent += 1
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._patience, self._too_late)
            self._send(command)
            return

    def _finish(self) -> asyncio.Future[bytes] | None:
        answer, self._current = self._current, None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        return answer
