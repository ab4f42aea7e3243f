# SPDX-License-Identifier: LGPL-2.1-or-later
"""Takes connections at a listening unix socket, a few at a time.

A loop of libuv takes all that wait before anything else has its turn, and so serves nobody for
as long as somebody connects faster than that.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from vccid.process.log_rate_limit import LogRateLimit

log = logging.getLogger(__name__)

#: Connections the kernel keeps waiting.
BACKLOG: Final = 128

#: Connections taken in one turn of the loop.
AT_ONCE: Final = 8

#: Seconds without a new connection when the system has no descriptor or memory for one.
BREATH: Final = 0.5


class PacedAccept:
    """Stands at one socket."""

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[socket.socket], Callable[[], asyncio.BaseProtocol] | None],
        backlog: int = BACKLOG,
    ) -> None:
        """
        Args:
            listening: bound, and perhaps listening already; is closed at the end.
            make: what makes the protocol of one who connected; None turns it away, unless it has
                detached the socket. It is asked at once, and must not block.
            backlog: connections the kernel keeps waiting.
        """
        self._listening = listening
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[None]] = set()
        self._breath: asyncio.TimerHandle | None = None
        self._log_limit = LogRateLimit(log)
        listening.setblocking(False)
        listening.listen(backlog)
        self._loop.add_reader(listening.fileno(), self._take)

    def close(self) -> None:
        """Take nobody more. May be repeated."""
        if self._listening.fileno() < 0:
            return
        if self._breath is not None:
            self._breath.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        for task in self._entering:
            task.cancel()

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _address = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._log_limit.tell("", logging.ERROR, "no connection can be taken: %s", error)
                self._loop.remove_reader(self._listening.fileno())
                self._breath = self._loop.call_later(BREATH, self._go_on)
                return
            self._let_in(connection)

    def _go_on(self) -> None:
        self._loop.add_reader(self._listening.fileno(), self._take)

    def _let_in(self, connection: socket.socket) -> None:
        try:
            factory = self._make(connection)
        except Exception as error:  # it hung up before it was asked for its name, for one
            self._log_limit.tell("", logging.WARNING, "a connection was dropped: %r", error)
            factory = None
        if factory is None:
            connection.close()
            return
        task = self._loop.create_task(self._enter(factory, connection))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _enter(
        self, factory: Callable[[], asyncio.BaseProtocol], connection: socket.socket
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(factory, connection)
        except OSError as error:
            self._log_limit.tell("", logging.WARNING, "a connection was lost: %s", error)
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
