# SPDX-License-Identifier: LGPL-2.1-or-later
"""One connection to a VSC host: Init, one reader, its card, its commands.

What QEMU makes of each message is in QEMU's hw/usb/ccid-card-passthru.c. What follows
from it here: never send VSC_Error; never part of a message, nor an answer nobody awaits;
CardRemove before another card's ATR, and some time between.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from vccid.card.card import Card
from vccid.errors import CardRemoved, ProtocolError, RemoteProtocolError, VccidError
from vccid.frontends.dialling import Link, log_of
from vccid.iso7816 import status
from vccid.iso7816.atr import Atr
from vccid.tpdu.t0 import T0Session
from vccid.wire import vsc

if TYPE_CHECKING:
    from vccid.frontends.guest.vsc import VscFrontend

_log = logging.getLogger(__name__)

#: QEMU's usb-ccid speaks T=0 TPDUs only and drops an answer of more than 374 bytes. One length
#: more is left out. QEMU's releases up to 10.0 let go of an answer only when what they last
#: handed over is not 64 bytes: right for UHCI, which reads packet by packet and needs an empty
#: one to end with, wrong for xHCI, which takes all 64 bytes in one transfer. There the guest's
#: next read gets nothing, every later answer comes one read late, and libccid gives the reader
#: up. A CCID block of 64 bytes is a header of 10, 52 bytes of data and the status word: so a
#: card that never answers 52 bytes never meets the fault.
_LEFT_OUT: Final = 64 - 10 - 2


class VscLink(Link):
    """The client's side of one connection."""

    def __init__(self, frontend: VscFrontend) -> None:
        super().__init__(log_of(_log, frontend.reader.name))
        self._frontend = frontend
        self._reader = frontend.reader
        self._loop = asyncio.get_running_loop()
        self._parser = vsc.Parser()
        self._answered = asyncio.Event()
        #: What to do with the VSC_Error that answers each request; order is the only tie.
        self._asked: deque[Callable[[vsc.Error], None]] = deque()
        self._greeted = False
        self._leaving = False
        self._reader_id: int | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._shown: Card | None = None
        self._shown_generation = -1
        self._session: T0Session | None = None
        self._running: asyncio.Task[None] | None = None
        self._next: bytes | None = None
        self._flush_asked = False

    # -- what the frontend asks ------------------------------------------------------

    async def leave(self) -> None:
        """Take card and reader away, wait for the host to have read it, hang up."""
        try:
            await self._leave()
        finally:
            self._transport.close()

    async def _leave(self) -> None:
        if self._reader_id is not None and not self._leaving:
            self._leaving = True
            if self._shown is not None:
                self._hide()
            self._ask(vsc.ReaderRemove(self._id), lambda answer: None)
            try:
                async with asyncio.timeout(self._frontend.timing.leave):
                    await self._answered.wait()
            except TimeoutError:
                self.log.warning("%s took no leave in time", self._frontend.peer)

    def look(self) -> None:
        """Bring what the host knows in line with the reader."""
        if self._reader_id is None or self._leaving or self._rest is not None:
            return
        card, generation = self._reader.card, self._reader.generation
        if self._shown is not None:
            if generation != self._shown_generation:
                self._hide()
                self._rest_then_look()
        elif card is not None and self._fits_qemu(card):
            self._shown, self._shown_generation = card, generation
            self._ask(vsc.Atr(self._id, card.atr), self._atr_answered)
        else:
            self._reader.acknowledge(self._frontend, generation)

    # -- asyncio.Protocol ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._send(vsc.Init(vsc.MINIMAL_READER_ID))

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._parser.feed(data):
                self._handle(message)
        except ProtocolError as error:
            self._end(error)
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._rest is not None:
            self._rest.cancel()
        if self._running is not None:
            self._running.cancel()
        self._end_session()
        self._reader_id = None
        self._answered.set()
        self._reader.detach(self._frontend)
        super().connection_lost(error)

    # -- messages --------------------------------------------------------------------

    @property
    def _id(self) -> int:
        return vsc.MINIMAL_READER_ID if self._reader_id is None else self._reader_id

    def _handle(self, message: vsc.Message | vsc.Unknown) -> None:
        if isinstance(message, vsc.Apdu):
            self._command(message.payload)
        elif isinstance(message, vsc.Error):
            self._error(message)
        elif isinstance(message, vsc.Init):
            self._greet()
        elif isinstance(message, vsc.Flush):
            self._flush_asked = True
            self._flush()
        elif isinstance(message, vsc.Unknown):
            self.log.debug("%s sent a VSC message of type %d", self._frontend.peer, message.type)
        else:
            raise RemoteProtocolError(f"a VSC host sent {type(message).__name__}")

    def _greet(self) -> None:
        if self._greeted:
            return  # QEMU sends one when it starts and one in answer to ours
        self._greeted = True
        # What a client that was killed left behind is still in the guest.
        self._ask(vsc.ReaderRemove(self._id), lambda answer: None)
        self._ask(vsc.ReaderAdd(self._id, self._reader.name), self._reader_answered)

    def _reader_answered(self, answer: vsc.Error) -> None:
        if answer.code != vsc.SUCCESS:
            raise RemoteProtocolError(f"the host takes no reader: VSC error {answer.code}")
        self._reader_id = answer.reader_id
        self._reader.attach(self._frontend)
        self._made_ready()
        if self._reader.card is None:
            self.look()
        else:
            self._rest_then_look()

    def _error(self, answer: vsc.Error) -> None:
        if not self._asked:
            self.log.debug("%s sent VSC error %d unasked", self._frontend.peer, answer.code)
            return
        self._asked.popleft()(answer)
        if not self._asked:
            self._answered.set()

    def _atr_answered(self, answer: vsc.Error) -> None:
        if answer.code != vsc.SUCCESS:
            self.log.warning(
                "%s refused the card's ATR: VSC error %d", self._frontend.peer, answer.code
            )
            self._frontend.refusal = "QEMU refused the card's ATR"
        if self._shown is not None:
            self._reader.acknowledge(self._frontend, self._shown_generation)

    # -- the card --------------------------------------------------------------------

    def _hide(self) -> None:
        """CardRemove; the host then gives up the command it waits for."""
        generation = self._reader.generation
        self._shown = None
        self._end_session()
        self._ask(
            vsc.CardRemove(self._id),
            lambda answer: self._acknowledge_removal(generation),
        )

    def _acknowledge_removal(self, generation: int) -> None:
        # With another card in already, its ATR is what has to be seen.
        if self._reader.card is None:
            self._reader.acknowledge(self._frontend, generation)

    def _rest_then_look(self) -> None:
        self._rest = self._loop.call_later(self._frontend.timing.exchange, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self.look()

    def _end_session(self) -> None:
        session, self._session = self._session, None
        self._next = None
        if session is not None:
            self._reader.power_off(session.under)

    # -- commands --------------------------------------------------------------------

    def _command(self, command: bytes) -> None:
        self._frontend.commands += 1
        if self._running is not None:
            # QEMU asks again before it has an answer only after the guest reset the
            # reader: the first answer is wanted no more.
            self._next = command
            return
        if self._shown is None:
            return  # sent before our CardRemove was read; QEMU has completed it by itself
        if self._session is None:
            self._running = self._loop.create_task(self._wait(self._power_on(command)))
            return
        try:
            answer = self._session.execute(command)
        except Exception as error:  # whatever it is, it is this command's alone
            self._failed(error)
            return
        if isinstance(answer, bytes):
            self._send(vsc.Apdu(self._id, answer))
        else:
            self._running = self._loop.create_task(self._wait(answer))

    async def _power_on(self, command: bytes) -> bytes:
        """The protocol has no power-on: the first command after the ATR is one."""
        shown = self._shown_generation
        session = await self._reader.power_on()
        if self._shown is None or self._shown_generation != shown:
            self._reader.power_off(session)
            raise CardRemoved("the card was exchanged meanwhile")
        self._session = T0Session(session, left_out=_LEFT_OUT)
        return await self._session.transmit(command)

    async def _wait(self, answer: Awaitable[bytes]) -> None:
        shown = self._shown_generation
        response, failure = b"", None
        try:
            response = await answer
        except Exception as error:
            failure = error
        self._running = None
        command, self._next = self._next, None
        if self._shown is not None and self._shown_generation == shown:
            if command is not None:
                self._command(command)
            elif failure is not None:
                self._failed(failure)
            else:
                self._send(vsc.Apdu(self._id, response))
        self._flush()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, CardRemoved):
            # Still in the reader, so only the session is over: a card with one security
            # state went to another host. The guest must learn that its state is gone.
            self._hide()
            self._rest_then_look()
        else:
            trace = None if isinstance(error, VccidError) else error
            self.log.warning("guest at %s: %s", self._frontend.peer, error, exc_info=trace)
            self._send(vsc.Apdu(self._id, status.NO_PRECISE_DIAGNOSIS))

    def _flush(self) -> None:
        if self._flush_asked and self._running is None:
            self._flush_asked = False
            self._send(vsc.FlushComplete(self._id))

    # -- the connection --------------------------------------------------------------

    def _ask(self, request: vsc.Message, then: Callable[[vsc.Error], None]) -> None:
        self._asked.append(then)
        self._answered.clear()
        self._send(request)

    def _send(self, message: vsc.Message) -> None:
        self._transport.write(vsc.serialize(message))

    def _fits_qemu(self, card: Card) -> bool:
        """QEMU's usb-ccid speaks T=0 only, and the guest refuses a card that does not."""
        self._frontend.refusal = ""
        try:
            fits = 0 in Atr.parse(card.atr).protocols
        except RemoteProtocolError:
            fits = True  # a real card's, with a slip in it: QEMU looks for itself
        if not fits:
            self._frontend.refusal = "the card has no T=0, QEMU's usb-ccid nothing else"
            self.log.warning(
                "the card with ATR %s cannot T=0, and QEMU's usb-ccid nothing else: use usbredir",
                card.atr.hex(" "),
            )
        return fits
