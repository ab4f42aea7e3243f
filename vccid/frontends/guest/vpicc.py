# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our card in somebody's vpcd, vsmartcard's virtual reader, wherever that runs; as its vicc is.

`VpiccFrontend` dials while a card is in; `vpicc_connection` has one connection, which is the card.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from vccid.errors import NotPermitted
from vccid.frontends.dialling import Timing, log_of
from vccid.frontends.guest.vpicc_connection import VpiccConnection
from vccid.frontends.guest.vpicc_states import VPICC, Event, State
from vccid.links.transport import Endpoint
from vccid.reader import Host, Reader

_log = logging.getLogger(__name__)


class VpiccFrontend(Host):
    """One reader's card in one vpcd.

    Attributes:
        state: where it stands.
        trouble: what last went wrong, or "".
    """

    kind = "vpicc"

    def __init__(self, reader: Reader, endpoint: Endpoint, timing: Timing = Timing()) -> None:  # noqa: B008 - frozen
        """
        Raises:
            NotPermitted: the endpoint is plain TCP beyond loopback.
        """
        endpoint.check()
        self.state = VPICC.initial
        self.trouble = ""
        self.peer = str(endpoint.address)
        self.seen = reader.generation
        self._reader = reader
        self._endpoint = endpoint
        self._timing = timing
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = log_of(_log, reader.name)

    @property
    def status(self) -> str:
        """How it stands, in a few words."""
        told = {
            State.EMPTY: "waiting for a card",
            State.DIALLING: f"dialling: {self.trouble}" if self.trouble else "dialling",
            State.CONNECTED: "connected, but vpcd does not look: its slot may have another card",
            State.SHOWN: "attached",
            State.LEAVING: "attached",
            State.STOPPED: "closed",
        }
        return told[self.state]

    def card_changed(self) -> None:
        self._changed.set()

    async def start(self) -> None:
        """Begin to look at the reader, and to dial once a card is in."""
        self._present()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Take the card out of vpcd, and stop. May be repeated."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self.state is not State.STOPPED:
            self._move(Event.STOP)
        self._reader.detach(self)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            if self._reader.card is None:
                self._present()
                self._reader.acknowledge(self, self._reader.generation)
                await self._changed.wait()
            else:
                self._move(Event.INSERTED)
                await self._show()

    def _present(self) -> None:
        """Be a host that is waited for, and told of cards."""
        if self not in self._reader.hosts:
            self.seen = self._reader.generation
            self._reader.attach(self)

    async def _show(self) -> None:
        """One card, until it has left and vpcd has noticed."""
        generation = self._reader.generation
        retry = self._timing.first_retry
        while self.state is State.DIALLING:
            connection = await self._dialled(generation)
            if connection is not None:
                self._present()
                self._move(Event.REACHED)
                retry = self._timing.first_retry
                await self._serve(connection, generation)
            if self.state is State.DIALLING and not await self._card_left(generation, retry):
                retry = min(2 * retry, self._timing.last_retry)
            elif self.state is State.DIALLING:
                self._move(Event.REMOVED)

    async def _card_left(self, generation: int, seconds: float) -> bool:
        """Wait so long; whether the card is another one by then, or none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._reader.generation == generation:
                    self._changed.clear()
                    await self._changed.wait()
        return self._reader.generation != generation

    async def _dialled(self, generation: int) -> VpiccConnection | None:
        card = self._reader.card
        if card is None or self._reader.generation != generation:
            return None

        def looked() -> None:
            if self.state is State.CONNECTED:
                self._move(Event.ATR_ASKED)
                self.trouble = ""
                self._log.info("vpcd at %s: attached", self.peer)
            self._reader.acknowledge(self, generation)

        try:
            async with asyncio.timeout(self._timing.ready):
                return await self._endpoint.dial(
                    lambda: VpiccConnection(self, self._reader, card.atr, looked)
                )
        except (OSError, NotPermitted) as error:
            trouble = str(error) or "no answer"
            if trouble != self.trouble:
                self._log.info("vpcd at %s: %s", self.peer, trouble)
            self.trouble = trouble
            # Nobody is there who could notice a card, so nobody need wait for that.
            self._reader.detach(self)
            return None

    async def _serve(self, connection: VpiccConnection, generation: int) -> None:
        """One connection to its end."""
        closed = asyncio.ensure_future(connection.wait_closed())
        try:
            while self._reader.generation == generation and not closed.done():
                self._changed.clear()
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({closed, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
            if self._reader.generation != generation:
                self._move(Event.REMOVED)
                connection.end()
                await asyncio.wait({closed}, timeout=self._timing.leave)
            self._move(Event.LOST)
        finally:
            closed.cancel()
            connection.abort()

    def _move(self, event: Event) -> None:
        self.state = VPICC.after(self.state, event)
