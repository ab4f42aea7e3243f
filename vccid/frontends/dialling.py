# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a frontend comes to its connection with a QEMU: it dials, and dials again.

Or it listens, which is in `awaited_call`.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from vccid.errors import ProtocolError
from vccid.frontends.dialling_states import CALL, Event, State
from vccid.links.transport import Endpoint, keep_alive
from vccid.process.cleanup import take_all_async

_log = logging.getLogger(__name__)

Log = logging.LoggerAdapter[logging.Logger]


def log_of(logger: logging.Logger, reader: str) -> Log:
    """A logger whose lines have a reader's name."""
    return logging.LoggerAdapter(logger, {"reader": reader})


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits, in seconds.

    Attributes:
        ready: for QEMU's part of the greeting; a second client waits unheard in QEMU's backlog.
        first_retry: before the first new dial; doubled for each one that fails.
        last_retry: the longest wait between two dials.
        exchange: between VSC_CardRemove and VSC_ATR, for the guest's driver to fetch the
            notification; QEMU makes one of two.
        leave: for QEMU to answer before the connection is closed.
    """

    ready: float = 5.0
    first_retry: float = 0.25
    last_retry: float = 10.0
    exchange: float = 1.0
    leave: float = 2.0


class Link(asyncio.Protocol, ABC):
    """One connection, from greeting to end.

    Attributes:
        log: whose lines have the reader's name.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport

    async def wait_ready(self) -> None:
        """Until both sides have greeted each other.

        Raises:
            ProtocolError: the peer refused, or broke the protocol.
            ConnectionError: it hung up.
        """
        await self._ready

    async def wait_closed(self) -> None:
        """Until the connection is over.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
            ConnectionError: it was lost other than by an orderly end.
        """
        await self._closed

    @abstractmethod
    async def leave(self) -> None:
        """Take everything away from the guest, then hang up."""

    def abort(self) -> None:
        """Drop the connection. May be repeated."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        keep_alive(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def _made_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _end(self, error: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(error or ConnectionResetError("the peer hung up at once"))
            self._ready.exception()  # it may be that nobody waits
        if not self._closed.done():
            if error is None:
                self._closed.set_result(None)
            else:
                self._closed.set_exception(error)
                self._closed.exception()


L = TypeVar("L", bound=Link)


class Call(ABC, Generic[L]):
    """One connection at a time, for as long as it is wanted.

    Attributes:
        link: the connection there is, greeted or not.
        state: where it is.
        trouble: what last went wrong, or "".
        connections: how often the peer was there.
    """

    def __init__(
        self,
        reader: str,
        peer: str,
        endpoint: Endpoint,
        make: Callable[[], L],
        timing: Timing,
    ) -> None:
        """`reader` and `peer` are for the log.

        Raises:
            NotPermitted: the endpoint is plain TCP beyond loopback.
        """
        endpoint.check()
        self.link: L | None = None
        self.state = CALL.initial
        self.trouble = ""
        self.connections = 0
        self._log = log_of(_log, reader)
        self._peer = peer
        self._endpoint = endpoint
        self._make = make
        self._timing = timing
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def status(self) -> str:
        """How it stands, in a few words."""
        if self.state is State.ATTACHED:
            times = "once" if self.connections == 1 else f"{self.connections} times"
            return f"attached ({times} so far)"
        return f"{self.state}: {self.trouble}" if self.trouble else self.state

    @abstractmethod
    async def start(self) -> None:
        """Begin to dial or to listen.

        Raises:
            ConfigError: the address to listen at is taken, or not ours to take.
        """

    async def close(self) -> None:
        """Take leave of the peer, and stop. May be repeated."""
        self._move(Event.CLOSE)
        link = self.link
        await take_all_async(*([] if link is None else [link.leave]), self._end_tasks)
        self.trouble = ""

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, link: L) -> bool:
        """One connection to its end; whether the peer was really there."""
        self.link = link
        ready = False
        try:
            async with asyncio.timeout(self._timing.ready):
                await link.wait_ready()
            ready = True
            self._move(Event.GREETED)
            self.trouble = ""
            self.connections += 1
            self._log.info("%s: attached", self._peer)
            await link.wait_closed()
            self._troubled(ConnectionResetError("the peer hung up"))
        except TimeoutError:
            self._troubled(TimeoutError("the peer does not greet: it may have another client"))
        except (OSError, ProtocolError) as error:
            self._troubled(error)
        finally:
            self.link = None
            link.abort()
        return ready

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _move(self, event: Event) -> None:
        self.state = CALL.after(self.state, event)

    def _troubled(self, error: Exception) -> None:
        trouble = str(error) or type(error).__name__
        if trouble != self.trouble:
            self._log.info("%s: %s", self._peer, trouble)
        self.trouble = trouble


class DialledCall(Call[L]):
    """We dial, and dial again."""

    async def start(self) -> None:
        self._keep(self._dial())

    async def _dial(self) -> None:
        retry = self._timing.first_retry
        while True:
            self._move(Event.DIAL)
            try:
                async with asyncio.timeout(self._timing.ready):
                    link = await self._endpoint.dial(self._make)
            except (OSError, ProtocolError) as error:
                self._troubled(error)
            else:
                if await self._serve(link):
                    retry = self._timing.first_retry
            self._move(Event.WAIT)
            await asyncio.sleep(retry)
            retry = min(retry * 2, self._timing.last_retry)
