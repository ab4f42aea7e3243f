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
    """The client's side of one connection.

    Attributes:
        state: where it stands.
        reader_id: what the host calls our reader.
    """

    def __init__(self, guest: VscGuest, timing: Timing) -> None:
        super().__init__(log_of(_log, guest.reader.name))
        self.state = VSC_CONNECTION.initial
        self._guest = guest
        self._timing = timing
        self._parser = vsc.Parser()
        self._requests = _Requests()
        self.reader_id = vsc.MINIMAL_READER_ID
        self._card = _ShownCard(self, guest, timing.exchange)
        self._commands = _Commands(self, guest, self._card)

    # -- what the frontend asks ------------------------------------------------------

    async def leave(self) -> None:
        """Take card and reader away, wait for the host to have read it, hang up."""
        try:
            await self._leave()
        finally:
            self._transport.close()

    async def _leave(self) -> None:
        if self.state is State.CARD:
            self._card.hide()
        if self.state in (State.EMPTY, State.RESTING):
            self.move(Event.LEAVE)
            self.ask(vsc.ReaderRemove(self.reader_id), lambda answer: None)
            try:
                async with asyncio.timeout(self._timing.leave):
                    await self._requests.all_answered.wait()
            except TimeoutError:
                self.log.warning("%s took no leave in time", self._guest.peer)

    def look(self) -> None:
        """Bring what the host knows in line with the reader."""
        self._card.look()

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
        self.move(Event.LOST)
        self._card.stop()
        self._commands.stop()
        self._requests.all_answered.set()
        self._guest.reader.detach(self._guest)
        super().connection_lost(error)

    # -- messages --------------------------------------------------------------------

    def send(self, message: vsc.Message) -> None:
        """Send what the host does not answer."""
        self._transport.write(vsc.serialize(message))

    def send_answer(self, response: bytes) -> None:
        """The card's answer to a command."""
        self.send(vsc.Apdu(self.reader_id, response))

    def send_flush_complete(self) -> None:
        """The answer to one VSC_Flush."""
        self.send(vsc.FlushComplete(self.reader_id))

    def ask(self, request: vsc.Message, then: Callable[[vsc.Error], None]) -> None:
        """Send what the host answers, and call `then` with that."""
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
        is_first = self.state is State.INIT_SENT
        self.move(Event.INIT)
        if is_first:
            # What a client that was killed left behind is still in the guest.
            self.ask(vsc.ReaderRemove(self.reader_id), lambda answer: None)
            self.ask(vsc.ReaderAdd(self.reader_id, self._guest.reader.name), self._reader_answered)

    def _reader_answered(self, answer: vsc.Error) -> None:
        if answer.code != vsc.SUCCESS:
            raise RemoteProtocolError(f"the host takes no reader: VSC error {answer.code}")
        self.move(Event.READER_ADDED)
        self.reader_id = answer.reader_id
        self._guest.reader.attach(self._guest)
        self._made_ready()
        if self._guest.reader.card is None:
            self.look()
        else:
            self._card.rest_then_look()

    def move(self, event: Event) -> None:
        """Go where the table says; without a card, the session with it is over."""
        self.state = VSC_CONNECTION.after(self.state, event)
        if event is Event.CARD_HIDDEN:
            self._commands.end_session()


class _ShownCard:
    """The reader's card, as the guest is shown it."""

    def __init__(self, link: VscLink, guest: VscGuest, rest: float) -> None:
        """`rest`: seconds between a card and the next."""
        self._link = link
        self._guest = guest
        self._reader = guest.reader
        self._seconds = rest
        self._rest: asyncio.TimerHandle | None = None
        self._generation = -1

    @property
    def generation(self) -> int:
        """The reader's with the card that is shown; -1 while none is."""
        return self._generation if self._link.state is State.CARD else -1

    def look(self) -> None:
        """Bring what the host knows in line with the reader."""
        link, card, generation = self._link, self._reader.card, self._reader.generation
        if link.state is State.CARD:
            if generation != self._generation:
                self.hide_for_a_while()
        elif link.state is State.EMPTY:
            if card is not None and self._fits_qemu(card):
                link.move(Event.CARD_SHOWN)
                self._generation = generation
                link.ask(vsc.Atr(link.reader_id, card.atr), self._atr_answered)
            else:
                self._reader.acknowledge(self._guest, generation)

    def hide_for_a_while(self) -> None:
        """Take the card away, and show what is in once the guest has noticed."""
        self.hide()
        self.rest_then_look()

    def hide(self) -> None:
        """CardRemove; the host then gives up the command it waits for."""
        generation = self._reader.generation
        self._link.move(Event.CARD_HIDDEN)
        self._link.ask(
            vsc.CardRemove(self._link.reader_id),
            lambda answer: self._acknowledge_removal(generation),
        )

    def rest_then_look(self) -> None:
        """Let the guest notice that there is none."""
        self._link.move(Event.REST)
        self._rest = asyncio.get_running_loop().call_later(self._seconds, self._rested)

    def stop(self) -> None:
        """The connection is over."""
        if self._rest is not None:
            self._rest.cancel()

    def _rested(self) -> None:
        if self._link.state is State.RESTING:
            self._link.move(Event.RESTED)
            self.look()

    def _atr_answered(self, answer: vsc.Error) -> None:
        if answer.code != vsc.SUCCESS:
            self._link.log.warning(
                "%s refused the card's ATR: VSC error %d", self._guest.peer, answer.code
            )
            self._guest.refusal = "QEMU refused the card's ATR"
        if self._link.state is State.CARD:
            self._reader.acknowledge(self._guest, self._generation)

    def _acknowledge_removal(self, generation: int) -> None:
        # With another card in already, its ATR is what has to be seen.
        if self._reader.card is None:
            self._reader.acknowledge(self._guest, generation)

    def _fits_qemu(self, card: Card) -> bool:
        """QEMU's usb-ccid speaks T=0 only, and the guest refuses a card that does not."""
        self._guest.refusal = ""
        try:
            fits = 0 in Atr.parse(card.atr).protocols
        except RemoteProtocolError:
            fits = True  # a real card's, with a slip in it: QEMU looks for itself
        if not fits:
            self._guest.refusal = "the card has no T=0, QEMU's usb-ccid nothing else"
            self._link.log.warning(
                "the card with ATR %s cannot T=0, and QEMU's usb-ccid nothing else: use usbredir",
                card.atr.hex(" "),
            )
        return fits


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

    def __init__(self, link: VscLink, guest: VscGuest, card: _ShownCard) -> None:
        self._link = link
        self._guest = guest
        self._card = card
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
        if self._card.generation < 0:
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
            self._guest.reader.power_off(session.under)

    def stop(self) -> None:
        """The connection is over."""
        if self._running is not None:
            self._running.cancel()
        self.end_session()

    def _run(self, answer: Awaitable[bytes]) -> None:
        self._running = asyncio.get_running_loop().create_task(self._wait(answer))

    async def _power_on(self, command: bytes) -> bytes:
        """The protocol has no power-on: the first command after the ATR is one."""
        shown = self._card.generation
        session = await self._guest.reader.power_on()
        if not self._is_shown(shown):
            self._guest.reader.power_off(session)
            raise CardRemoved("the card was exchanged meanwhile")
        self._session = T0Session(session, left_out=_LEFT_OUT)
        return await self._session.transmit(command)

    async def _wait(self, answer: Awaitable[bytes]) -> None:
        shown = self._card.generation
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
        return 0 <= generation == self._card.generation

    def _failed(self, error: Exception) -> None:
        if isinstance(error, CardRemoved):
            # Still in the reader, so only the session is over: a card with one security
            # state went to another host. The guest must learn that its state is gone.
            self._card.hide_for_a_while()
        else:
            trace = None if isinstance(error, VccidError) else error
            self._link.log.warning("guest at %s: %s", self._guest.peer, error, exc_info=trace)
            self._link.send_answer(status.NO_PRECISE_DIAGNOSIS)

    def _complete_flushes(self) -> None:
        if self._running is None:
            for _ in range(self._flushes):
                self._link.send_flush_complete()
            self._flushes = 0
