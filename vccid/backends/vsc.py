# SPDX-License-Identifier: LGPL-2.1-or-later
"""Far cards: we play QEMU's ccid-card-passthru to whoever has a card.

A VSC client (libcacard's vscclient, a SPICE client, another vccid) connects, adds its
readers, and says when a card is in one. `VscListener` listens; `VscClient` is one of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from vccid.backends.far_card import FarReader, Limits
from vccid.errors import ProtocolError, ReaderError, RemoteProtocolError
from vccid.reader import Reader
from vccid.transport import Endpoint, keep_alive, peer_name
from vccid.wire import vsc

_log = logging.getLogger(__name__)


class ReaderPool(Protocol):
    """Where readers for far cards come from; the daemon is one."""

    async def add(self, name: str, peer: str) -> Reader:
        """A new, empty reader, shown to every host. `name` is the far end's, unchecked.

        Raises:
            ReaderError: there may be no more.
        """

    async def remove(self, reader: Reader) -> None:
        """The far end is gone; the reader is empty already."""


class VscListener:
    """Listens for clients.

    Attributes:
        clients: those connected, for `vccidctl status`.
    """

    def __init__(self, endpoint: Endpoint, pool: ReaderPool, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        endpoint.check()
        self.endpoint = endpoint
        self.pool = pool
        self.limits = limits
        self.clients: dict[VscClient, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None

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

    def readers_in_use(self) -> int:
        """How many readers all clients have."""
        return sum(len(client.readers) for client in self.clients)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._accept)

    def _accept(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As many again as can have a reader may wait for one.
        if len(self.clients) >= 2 * self.limits.readers:
            _log.warning("VSC client %s was refused: too many", peer_name(writer.transport))
            writer.transport.abort()
            return
        client = VscClient(self, stream, writer)
        task = asyncio.get_running_loop().create_task(client.run())
        self.clients[client] = task
        task.add_done_callback(lambda done: self.clients.pop(client))


class VscClient:
    """One client.

    Attributes:
        peer: who it is, for people.
        readers: those it added, by the id it was given.
    """

    def __init__(
        self, listener: VscListener, stream: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.peer = peer_name(writer.transport)
        self.readers: dict[int, FarReader] = {}
        self._listener = listener
        self._stream = stream
        self._writer = writer
        keep_alive(writer.transport)

    async def run(self) -> None:
        """Serve it until it is gone; then nothing of it is left."""
        try:
            await self._serve()
        except TimeoutError:
            _log.warning("VSC client %s sent no Init", self.peer)
        except (ProtocolError, OSError) as error:
            _log.warning("VSC client %s: %s", self.peer, error)
        finally:
            self._writer.transport.abort()
            for reader_id in tuple(self.readers):
                await self._remove_reader(reader_id)

    def send(self, message: vsc.Message) -> None:
        """Send it a message."""
        self._writer.write(vsc.serialize(message))

    def drop(self) -> None:
        """Hang up."""
        self._writer.transport.abort()

    async def _serve(self) -> None:
        parser = vsc.Parser()
        greeted = False
        # One time for the whole Init: bytes that trickle in do not prolong it.
        async with asyncio.timeout(self._listener.limits.init) as deadline:
            while data := await self._stream.read(65536):
                for message in parser.feed(data):
                    if greeted:
                        await self._handle(message)
                    elif isinstance(message, vsc.Init):
                        greeted = True
                        deadline.reschedule(None)
                        self.send(vsc.Init(vsc.UNDEFINED_READER_ID))
                    else:
                        raise RemoteProtocolError(f"{type(message).__name__} before Init")

    async def _handle(self, message: vsc.Message | vsc.Unknown) -> None:
        if isinstance(message, vsc.ReaderAdd):
            await self._add_reader(message.name)
        elif isinstance(message, vsc.ReaderRemove):
            # One that is not there: a client that makes sure, after a crash.
            await self._remove_reader(message.reader_id)
            self.send(vsc.Error(message.reader_id, vsc.SUCCESS))
        elif isinstance(message, vsc.Init):
            self.send(vsc.Init(vsc.UNDEFINED_READER_ID))
        else:
            self._handle_card(message)

    def _handle_card(self, message: vsc.Message | vsc.Unknown) -> None:
        """What concerns the card in one reader."""
        reader = self.readers.get(message.reader_id)
        code = vsc.SUCCESS
        if reader is None or isinstance(message, vsc.Unknown | vsc.Flush):
            code = vsc.GENERAL_ERROR
        elif isinstance(message, vsc.Apdu):
            reader.answered(message.payload)
            return
        elif isinstance(message, vsc.Error):
            reader.failed(message.code)
            return
        elif isinstance(message, vsc.FlushComplete):
            return
        elif isinstance(message, vsc.Atr):
            code = reader.inserted(message.payload)
        else:
            reader.removed()
        if not isinstance(message, vsc.Error):
            self.send(vsc.Error(message.reader_id, code))

    async def _add_reader(self, name: str) -> None:
        reader_id = next(number for number in range(len(self.readers) + 1)
                         if number not in self.readers)  # fmt: skip
        try:
            if self._listener.readers_in_use() >= self._listener.limits.readers:
                raise ReaderError(f"all {self._listener.limits.readers} far readers are in use")
            reader = await self._listener.pool.add(name, self.peer)
        except ReaderError as error:
            _log.warning("VSC client %s gets no reader: %s", self.peer, error.message)
            self.send(vsc.Error(vsc.UNDEFINED_READER_ID, vsc.CANNOT_ADD_MORE_READERS))
            return
        self.readers[reader_id] = FarReader(self, reader_id, reader, name, self._listener.limits)
        self.send(vsc.Error(reader_id, vsc.SUCCESS))

    async def _remove_reader(self, reader_id: int) -> None:
        far = self.readers.pop(reader_id, None)
        if far is not None:
            far.removed()
            await self._listener.pool.remove(far.reader)
