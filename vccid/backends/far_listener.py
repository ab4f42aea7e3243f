# SPDX-License-Identifier: LGPL-2.1-or-later
"""Listens for clients that have cards, whatever protocol they speak."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from vccid.errors import ReaderError
from vccid.links.transport import Endpoint, Listening, peer_name
from vccid.process.log_rate_limit import LogRateLimit
from vccid.reader import Reader

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may have, and how long anything may take.

    Attributes:
        readers: all clients together; a client past it gets none.
        init: seconds until a client must have said who it is.
        answer: seconds a card may take for one command; then the client is dropped.
        idle: seconds after which another host may have a card its owner does not use.
        command: longest command APDU sent, in bytes.
    """

    readers: int = 16
    init: float = 5.0
    answer: float = 60.0
    idle: float = 10.0
    command: int = 270


class ReaderPool(Protocol):
    """Where readers for far cards come from; the daemon is one."""

    async def add(self, name: str, peer: str) -> Reader:
        """A new, empty reader, shown to every host. `name` is the far end's, unchecked.

        Raises:
            ReaderError: there may be no more.
        """

    async def remove(self, reader: Reader) -> None:
        """The far end is gone; the reader is empty already."""


class FarEnd(Protocol):
    """A far card's reader, for `vccidctl status`.

    Attributes:
        reader: ours, that shows it.
        name: what the far end calls it.
        peer: who is at the far end, for people.
    """

    reader: Reader
    name: str
    peer: str

    @property
    def commands(self) -> int:
        """How many APDUs were sent."""


class FarClient(ABC):
    """One client.

    Attributes:
        peer: who it is, for people.
    """

    peer: str

    @property
    @abstractmethod
    def readers(self) -> Mapping[int, FarEnd]:
        """Those it has here."""

    @abstractmethod
    async def run(self) -> None:
        """Serve it until it is gone; then nothing of it is left."""


C = TypeVar("C", bound=FarClient)

#: Makes a client of a new connection.
MakeClient = Callable[["FarListener[C]", asyncio.StreamReader, asyncio.StreamWriter], C]


class FarListener(Generic[C]):
    """Listens for clients.

    Attributes:
        clients: those connected, for `vccidctl status`.
    """

    def __init__(
        self, endpoint: Endpoint, pool: ReaderPool, limits: Limits, make: MakeClient[C]
    ) -> None:
        """
        Raises:
            NotPermitted: the endpoint is plain TCP beyond loopback.
        """
        endpoint.check()
        self.endpoint = endpoint
        self.limits = limits
        self.clients: dict[C, asyncio.Task[None]] = {}
        self._pool = pool
        self._make = make
        self._log_limit = LogRateLimit(_log)
        self._server: Listening | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken, or not ours to take.
        """
        self._server = await self.endpoint.listen(self._protocol)

    async def close(self) -> None:
        """Stop; every client is dropped and every far card removed. May be repeated."""
        if self._server is not None:
            self._server.close()
        tasks = list(self.clients.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def add_reader(self, name: str, peer: str) -> Reader:
        """A reader for a client.

        Raises:
            ReaderError: there may be no more.
        """
        if sum(len(client.readers) for client in self.clients) >= self.limits.readers:
            raise ReaderError(f"all {self.limits.readers} far readers are in use")
        return await self._pool.add(name, peer)

    async def remove_reader(self, reader: Reader) -> None:
        """A client's reader is gone; it is empty already."""
        await self._pool.remove(reader)

    def tell(self, level: int, text: str, *arguments: object) -> None:
        """Log a line that anybody who can connect may cause, as often as they like."""
        self._log_limit.tell(text, level, text, *arguments)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._accept)

    def _accept(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As many again as can have a reader may wait for one.
        if len(self.clients) >= 2 * self.limits.readers:
            peer = peer_name(writer.transport)
            self.tell(logging.WARNING, "%s was refused: too many far cards", peer)
            writer.transport.abort()
            return
        client = self._make(self, stream, writer)
        task = asyncio.get_running_loop().create_task(client.run())
        self.clients[client] = task
        task.add_done_callback(lambda done: self.clients.pop(client))
