# SPDX-License-Identifier: LGPL-2.1-or-later
"""One connection to a vpcd: our card as it asks for it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from vccid.card.card import Session
from vccid.errors import CardRemoved, VccidError
from vccid.frontends.dialling import log_of
from vccid.iso7816 import status
from vccid.links.transport import keep_alive
from vccid.reader import Host, Reader
from vccid.wire import vpcd
from vccid.wire.vpcd import Control

_log = logging.getLogger(__name__)


class VpiccConnection(asyncio.Protocol):
    """The card side: controls and commands in the order they come, one answer a question."""

    def __init__(self, host: Host, reader: Reader, atr: bytes, looked: Callable[[], None]) -> None:
        """
        Args:
            host: whose commands are counted.
            atr: of the card this connection stands for.
            looked: called when vpcd asks for it.
        """
        self._host = host
        self._reader = reader
        self._atr = atr
        self._looked = looked
        self._log = log_of(_log, reader.name)
        self._parser = vpcd.Parser()
        self._frames: deque[bytes] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport

    # -- asyncio.Protocol ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        keep_alive(transport)
        self._acknowledge_at_once()

    def data_received(self, data: bytes) -> None:
        self._acknowledge_at_once()
        self._frames.extend(self._parser.feed(data))
        if self._worker is None:
            self._go_on()

    def eof_received(self) -> bool:
        return False  # nothing is asked any more: close

    def connection_lost(self, error: Exception | None) -> None:
        if self._worker is not None:
            self._worker.cancel()
        self._power_off()
        if not self._closed.done():
            self._closed.set_result(None)

    def _acknowledge_at_once(self) -> None:
        """vpcd 0.8 writes a frame in two, and Nagle holds back the second until this is done.

        The kernel forgets it by itself, so it is said before each read.
        """
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    # -- what the frontend asks ------------------------------------------------------

    async def wait_closed(self) -> None:
        """Until the connection is over."""
        await asyncio.shield(self._closed)

    def end(self) -> None:
        """The card left: close our end. vpcd notices when it looks next, and closes its own."""
        self._frames.clear()
        self._power_off()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection. May be repeated."""
        self._transport.abort()

    # -- frames ----------------------------------------------------------------------

    def _go_on(self) -> None:
        """Answer what can be answered at once; a task does the first that must wait."""
        while self._frames:
            frame = self._frames.popleft()
            if len(frame) == 1:
                if not self._control(frame[0]):
                    self._work(self._power_on())
                    return
            elif frame:
                self._work(self._execute(frame))
                return

    def _work(self, work: Awaitable[None]) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._finish(work))

    async def _finish(self, work: Awaitable[None]) -> None:
        await work
        self._worker = None
        self._go_on()

    def _control(self, what: int) -> bool:
        """Do what a frame of one byte says; False where the card is to be powered on."""
        if what in (Control.OFF, Control.ON, Control.RESET):
            self._power_off()
        elif what == Control.ATR:
            self._answer(self._atr)
            self._looked()
        return what not in (Control.ON, Control.RESET)

    async def _power_on(self) -> None:
        """A session of its own; where that fails, the next command tells so."""
        try:
            self._session = await self._reader.power_on()
        except Exception as error:  # whatever it is, it is this command's alone
            self._complain("vpcd powered the card on", error)

    async def _execute(self, command: bytes) -> None:
        self._host.commands += 1
        try:
            if self._session is None:
                self._session = await self._reader.power_on()
            self._answer(await self._session.transmit(command))
        except CardRemoved:
            # Still in the reader, perhaps, but its state is gone: vpcd knows no other sign.
            self.abort()
        except Exception as error:
            self._complain("vpcd's command failed", error)
            self._answer(status.NO_PRECISE_DIAGNOSIS)

    def _complain(self, what: str, error: Exception) -> None:
        trace = None if isinstance(error, VccidError) else error
        self._log.warning("%s: %s", what, error, exc_info=trace)

    def _answer(self, data: bytes) -> None:
        if len(data) > vpcd.LONGEST:
            data = status.NO_PRECISE_DIAGNOSIS
        self._transport.write(vpcd.serialize(data))

    def _power_off(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._reader.power_off(session)
