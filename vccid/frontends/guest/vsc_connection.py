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
from typing import Final

from vccid.card.card import Card
from vccid.errors import CardRemoved, ProtocolError, RemoteProtocolError, VccidError
from vccid.frontends.dialling import Link, Timing, log_of
from vccid.frontends.guest.vsc_states import VSC_CONNECTION, Event, State
from vccid.iso7816 import status
from vccid.iso7816.atr import Atr
from vccid.reader import Host, Reader
from vccid.tpdu.t0 import T0Session
from vccid.wire import vsc

_log = logging.getLogger(__name__)

#: QEMU's usb-ccid speaks T=0 TPDUs only and drops an answer of more than 374 bytes. One length
#: more is left out. QEMU's releases up to 10.0 let go of an answer only when what they last
#: handed over is not 64 bytes: right for UHCI, which reads packet by packet and needs an empty
#: one to end with, wrong for xHCI, which takes all 64 bytes in one transfer. There the guest's
#: next read gets nothing, every later answer comes one read late, and libccid gives the reader
#: up. A CCID block of 64 bytes is a header of 10, 52 bytes of data and the status word: so a
#: card that never answers 52 bytes never meets the fault.
_LEFT_OUT: Final = 64 - 10 - 2


class VscGuest(Host):
    """A guest as the reader's host, whatever its connections.

    Attributes:
        reader: what it is shown.
        refusal: why the guest does not see the card that is in the reader, or "".
    """

    kind = "vsc"

    def __init__(self, reader: Reader, peer: str) -> None:
        """`peer` is the guest's address."""
        self.reader = reader
        self.peer = peer
        self.seen = 0
        self.refusal = ""


class VscLink(Link):
    """The client's side of one connection."""

    def __init__(self, guest: VscGuest, timing: Timing) -> None:
        super().__init__(log_of(_log, guest.reader.name))
        self._state = VSC_CONNECTION.initial
        self._guest = guest
        self._reader = guest.reader
        self._timing = timing
        self._parser = vsc.Parser()
        self._requests = _Requests()
        self._id = vsc.MINIMAL_READER_ID
        self._rest: asyncio.TimerHandle | None = None
        self._shown_generation = -1
        self._commands = _Commands(self)

    # -- what the frontend asks ------------------------------------------------------

    async def leave(self) -> None:
        """Take card and reader away, wait for the host to have read it, hang up."""
        try:
            await self._leave()
        finally:
            self._transport.close()

    async def _leave(self) -> None:
        if self._state is State.CARD:
            self._hide()
        if self._state in (State.EMPTY, State.RESTING):
            self._move(Event.LEAVE)
            self._ask(vsc.ReaderRemove(self._id), lambda answer: None)
            try:
                async with asyncio.timeout(self._timing.leave):
                    await self._requests.all_answered.wait()
            except TimeoutError:
                self.log.warning("%s took no leave in time", self._guest.peer)

    def look(self) -> None:
        """Bring what the host knows in line with the reader."""
        card, generation = self._reader.card, self._reader.generation
        if self._state is State.CARD:
            if generation != self._shown_generation:
                self._hide()
                self._rest_then_look()
        elif self._state is State.EMPTY:
            if card is not None and self._fits_qemu(card):
                self._move(Event.CARD_SHOWN)
                self._shown_generation = generation
                self._ask(vsc.Atr(self._id, card.atr), self._atr_answered)
            else:
                self._reader.acknowledge(self._guest, generation)

    # -- asyncio.Protocol ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(vsc.Init(vsc.MINIMAL_READER_ID))

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._parser.feed(data):
                self._handle(message)
        except ProtocolError as error:
            self._end(error)
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._move(Event.LOST)
        if self._rest is not None:
            self._rest.cancel()
        self._commands.stop()
        self._requests.all_answered.set()
        self._reader.detach(self._guest)
        super().connection_lost(error)

    # -- messages --------------------------------------------------------------------

    def send(self, message: vsc.Message) -> None:
        """Send what the host does not answer."""
        self._transport.write(vsc.serialize(message))

    def send_answer(self, response: bytes) -> None:
        """The card's answer to a command."""
        self.send(vsc.Apdu(self._id, response))

    def send_flush_complete(self) -> None:
        """The answer to one VSC_Flush."""
        self.send(vsc.FlushComplete(self._id))

    def _ask(self, request: vsc.Message, then: Callable[[vsc.Error], None]) -> None:
        self._requests.add(then)
        self.send(request)

    def _handle(self, message: vsc.Message | vsc.Unknown) -> None:
        peer = self._guest.peer
        if isinstance(message, vsc.Apdu):
            self._guest.commands += 1
            self._commands.take(message.payload)
        elif isinstance(message, vsc.Error):
            if not self._requests.answer(message):
                self.log.debug("%s sent VSC error %d unasked", peer, message.code)
        elif isinstance(message, vsc.Init):
            self._greet()
        elif isinstance(message, vsc.Flush):
            self._commands.flush()
        elif isinstance(message, vsc.Unknown):
            self.log.debug("%s sent a VSC message of type %d", peer, message.type)
        else:
            raise RemoteProtocolError(f"a VSC host sent {type(message).__name__}")

    def _greet(self) -> None:
        is_first = self._state is State.INIT_SENT
        self._move(Event.INIT)
        if is_first:
            # What a client that was killed left behind is still in the guest.
            self._ask(vsc.ReaderRemove(self._id), lambda answer: None)
            self._ask(vsc.ReaderAdd(self._id, self._reader.name), self._reader_answered)

    def _reader_answered(self, answer: vsc.Error) -> None:
        if answer.code != vsc.SUCCESS:
            raise RemoteProtocolError(f"the host takes no reader: VSC error {answer.code}")
        self._move(Event.READER_ADDED)
        self._id = answer.reader_id
        self._reader.attach(self._guest)
        self._made_ready()
        if self._reader.card is None:
            self.look()
        else:
            self._rest_then_look()

    def _atr_answered(self, answer: vsc.Error) -> None:
        if answer.code != vsc.SUCCESS:
            self.log.warning(
                "%s refused the card's ATR: VSC error %d", self._guest.peer, answer.code
            )
            self._guest.refusal = "QEMU refused the card's ATR"
        if self._state is State.CARD:
            self._reader.acknowledge(self._guest, self._shown_generation)

    # -- the card --------------------------------------------------------------------

    @property
    def shown_generation(self) -> int:
        """The reader's generation with the card that is shown; -1 while none is."""
        return self._shown_generation if self._state is State.CARD else -1

    def hide_for_a_while(self) -> None:
        """Take the card away, and show it again once the guest has noticed."""
        self._hide()
        self._rest_then_look()

    def _hide(self) -> None:
        """CardRemove; the host then gives up the command it waits for."""
        generation = self._reader.generation
        self._move(Event.CARD_HIDDEN)
        self._commands.end_session()
        self._ask(
            vsc.CardRemove(self._id),
            lambda answer: self._acknowledge_removal(generation),
        )

    def _acknowledge_removal(self, generation: int) -> None:
        # With another card in already, its ATR is what has to be seen.
        if self._reader.card is None:
            self._reader.acknowledge(self._guest, generation)

    def _rest_then_look(self) -> None:
        self._move(Event.REST)
        loop = asyncio.get_running_loop()
        self._rest = loop.call_later(self._timing.exchange, self._rested)

    def _rested(self) -> None:
        if self._state is State.RESTING:
            self._move(Event.RESTED)
            self.look()

    def _fits_qemu(self, card: Card) -> bool:
        """QEMU's usb-ccid speaks T=0 only, and the guest refuses a card that does not."""
        self._guest.refusal = ""
        try:
            fits = 0 in Atr.parse(card.atr).protocols
        except RemoteProtocolError:
            fits = True  # a real card's, with a slip in it: QEMU looks for itself
        if not fits:
            self._guest.refusal = "the card has no T=0, QEMU's usb-ccid nothing else"
            self.log.warning(
                "the card with ATR %s cannot T=0, and QEMU's usb-ccid nothing else: use usbredir",
                card.atr.hex(" "),
            )
        return fits

    def _move(self, event: Event) -> None:
        self._state = VSC_CONNECTION.after(self._state, event)

    @property
    def reader(self) -> Reader:
        """The reader that the guest is shown."""
        return self._reader

    @property
    def peer(self) -> str:
        """The guest's address."""
        return self._guest.peer


class _Requests:
    """What to do with the VSC_Error that answers each request; order is the only tie."""

    def __init__(self) -> None:
        self.all_answered = asyncio.Event()
        self._waiting: deque[Callable[[vsc.Error], None]] = deque()

    def add(self, then: Callable[[vsc.Error], None]) -> None:
        self._waiting.append(then)
        self.all_answered.clear()

    def answer(self, answer: vsc.Error) -> bool:
        """Take an answer; False where nothing was asked."""
        if not self._waiting:
            return False
        self._waiting.popleft()(answer)
        if not self._waiting:
            self.all_answered.set()
        return True


class _Commands:
    """The guest's commands, one at a time, in a session that begins with the first."""

    def __init__(self, link: VscLink) -> None:
        self._link = link
        self._session: T0Session | None = None
        self._running: asyncio.Task[None] | None = None
        self._next: bytes | None = None
        self._flushes = 0

    def take(self, command: bytes) -> None:
        """A command came."""
        if self._running is not None:
            # QEMU asks again before it has an answer only after the guest reset the
            # reader: the first answer is wanted no more.
            self._next = command
            return
        if self._link.shown_generation < 0:
            return  # sent before our CardRemove was read; QEMU has completed it by itself
        if self._session is None:
            self._run(self._power_on(command))
            return
        try:
            answer = self._session.execute(command)
        except Exception as error:  # whatever it is, it is this command's alone
            self._failed(error)
            return
        if isinstance(answer, bytes):
            self._link.send_answer(answer)
        else:
            self._run(answer)

    def flush(self) -> None:
        """VSC_FlushComplete is due once no command runs."""
        self._flushes += 1
        self._complete_flushes()

    def end_session(self) -> None:
        """The card leaves the guest."""
        session, self._session = self._session, None
        self._next = None
        if session is not None:
            self._link.reader.power_off(session.under)

    def stop(self) -> None:
        """The connection is over."""
        if self._running is not None:
            self._running.cancel()
        self.end_session()

    def _run(self, answer: Awaitable[bytes]) -> None:
        self._running = asyncio.get_running_loop().create_task(self._wait(answer))

    async def _power_on(self, command: bytes) -> bytes:
        """The protocol has no power-on: the first command after the ATR is one."""
        shown = self._link.shown_generation
        session = await self._link.reader.power_on()
        if not self._is_shown(shown):
            self._link.reader.power_off(session)
            raise CardRemoved("the card was exchanged meanwhile")
        self._session = T0Session(session, left_out=_LEFT_OUT)
        return await self._session.transmit(command)

    async def _wait(self, answer: Awaitable[bytes]) -> None:
        shown = self._link.shown_generation
        response, failure = b"", None
        try:
            response = await answer
        except Exception as error:
            failure = error
        self._running = None
        command, self._next = self._next, None
        if self._is_shown(shown):
            if command is not None:
                self.take(command)
            elif failure is not None:
                self._failed(failure)
            else:
                self._link.send_answer(response)
        self._complete_flushes()

    def _is_shown(self, generation: int) -> bool:
        return 0 <= generation == self._link.shown_generation

    def _failed(self, error: Exception) -> None:
        if isinstance(error, CardRemoved):
            # Still in the reader, so only the session is over: a card with one security
            # state went to another host. The guest must learn that its state is gone.
            self._link.hide_for_a_while()
        else:
            trace = None if isinstance(error, VccidError) else error
            self._link.log.warning("guest at %s: %s", self._link.peer, error, exc_info=trace)
            self._link.send_answer(status.NO_PRECISE_DIAGNOSIS)

    def _complete_flushes(self) -> None:
        if self._running is None:
            for _ in range(self._flushes):
                self._link.send_flush_complete()
            self._flushes = 0
