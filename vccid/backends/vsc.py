# SPDX-License-Identifier: LGPL-2.1-or-later
"""Far cards: we play QEMU's ccid-card-passthru to whoever has a card.

A VSC client (libcacard's vscclient, a SPICE client, another vccid) connects, adds its
readers, and says when a card is in one. `VscListener` listens; `VscClient` is one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from vccid.backends.far_card import FarReader
from vccid.backends.far_listener import FarClient, FarListener, Limits, ReaderPool
from vccid.errors import ProtocolError, ReaderError, RemoteProtocolError
from vccid.links.transport import Endpoint, keep_alive, peer_name
from vccid.process.cleanup import take_all_async
from vccid.wire import vsc

_log = logging.getLogger(__name__)


class VscListener(FarListener["VscClient"]):
    """Listens for VSC clients."""

    def __init__(self, endpoint: Endpoint, pool: ReaderPool, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        """
        Raises:
            NotPermitted: the endpoint is plain TCP beyond loopback.
        """
        super().__init__(endpoint, pool, limits, VscClient)


class VscClient(FarClient):
    """One client; its readers have the ids it was given for them."""

    def __init__(
        self,
        listener: FarListener[VscClient],
        stream: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.peer = peer_name(writer.transport)
        self._readers: dict[int, FarReader] = {}
        self._listener = listener
        self._stream = stream
        self._writer = writer
        keep_alive(writer.transport)

    @property
    def readers(self) -> Mapping[int, FarReader]:
        return self._readers

    async def run(self) -> None:
        try:
            await self._serve()
        except TimeoutError:
            self._listener.tell(logging.WARNING, "VSC client %s sent no Init", self.peer)
        except (ProtocolError, OSError) as error:
            self._listener.tell(logging.WARNING, "VSC client %s: %s", self.peer, error)
        finally:
            self._writer.transport.abort()
            await take_all_async(*(partial(self._remove_reader, id) for id in self._readers))

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
        reader = self._readers.get(message.reader_id)
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
        reader_id = next(number for number in range(len(self._readers) + 1)
                         if number not in self._readers)  # fmt: skip
        try:
            reader = await self._listener.add_reader(name, self.peer)
        except ReaderError as error:
            text = "VSC client %s gets no reader: %s"
            self._listener.tell(logging.WARNING, text, self.peer, error.message)
            self.send(vsc.Error(vsc.UNDEFINED_READER_ID, vsc.CANNOT_ADD_MORE_READERS))
            return
        self._readers[reader_id] = FarReader(self, reader_id, reader, name, self._listener.limits)
        self.send(vsc.Error(reader_id, vsc.SUCCESS))

    async def _remove_reader(self, reader_id: int) -> None:
        far = self._readers.pop(reader_id, None)
        if far is not None:
            far.removed()
            await self._listener.remove_reader(far.reader)
