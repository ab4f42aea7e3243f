# SPDX-License-Identifier: LGPL-2.1-or-later
"""Takes connections at a listening socket, a few at a time.

A loop of libuv takes all that wait before anything else has its turn, and so serves nobody for
as long as somebody connects faster than that. Nor does it count those in TLS's handshake.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
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

#: Seconds a peer may take for TLS's handshake.
HANDSHAKE_TIMEOUT: Final = 5.0

#: Those that may be at it at once, of all and of one address. A peer needs some milliseconds.
HANDSHAKES: Final = 32
HANDSHAKES_OF_ONE: Final = 8


class PacedAccept:
    """Stands at one socket."""

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[socket.socket], Callable[[], asyncio.BaseProtocol] | None],
        backlog: int = BACKLOG,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            listening: bound, and perhaps listening already; is closed at the end.
            make: what makes the protocol of one who connected; None turns it away, unless it has
                detached the socket. It is asked at once, and must not block.
            backlog: connections the kernel keeps waiting.
            tls: whose handshake each comes through before its protocol is connected.
        """
        self._listening = listening
        self._make = make
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._entering: dict[asyncio.Task[None], str] = {}  # of an address, "" for a unix socket's
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
        for task in tuple(self._entering):
            task.cancel()

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._log_limit.tell("", logging.ERROR, "no connection can be taken: %s", error)
                self._loop.remove_reader(self._listening.fileno())
                self._breath = self._loop.call_later(BREATH, self._go_on)
                return
            self._let_in(connection, address[0] if isinstance(address, tuple) else "")

    def _go_on(self) -> None:
        self._loop.add_reader(self._listening.fileno(), self._take)

    def _let_in(self, connection: socket.socket, address: str) -> None:
        factory = None
        try:
            if self._may_enter(address):
                factory = self._make(connection)
        except Exception as error:  # it hung up before it was asked for its name, for one
            self._log_limit.tell("", logging.WARNING, "a connection was dropped: %r", error)
        if factory is None:
            connection.close()
            return
        task = self._loop.create_task(self._enter(factory, connection, address))
        self._entering[task] = address
        task.add_done_callback(self._entering.pop)

    def _may_enter(self, address: str) -> bool:
        """Whether there is room for one more in the handshake; who came before has it."""
        if self._tls is None:
            return True
        mine = Counter(self._entering.values())[address]
        if mine < HANDSHAKES_OF_ONE and len(self._entering) < HANDSHAKES:
            return True
        text = "%s was refused: %d connections are in TLS's handshake, %d of them from there"
        self._log_limit.tell("full", logging.WARNING, text, address, len(self._entering), mine)
        return False

    async def _enter(
        self, factory: Callable[[], asyncio.BaseProtocol], connection: socket.socket, address: str
    ) -> None:
        try:
            if connection.family != socket.AF_UNIX:
                # asyncio sets it only on sockets that it made itself; an APDU is two short writes.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                factory,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_TIMEOUT,
            )
        except OSError as error:
            reason = str(error) or type(error).__name__
            text = "a connection%s was lost: %s"
            came = address and f" from {address}"
            self._log_limit.tell("", logging.WARNING, text, came, reason)
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
