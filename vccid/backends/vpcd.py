# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards of vsmartcard's kind: we are the virtual reader, vpcd, that a vicc or its like dials.

A connection is a card: it is in once it told its ATR, and out when the connection ends. What
follows from the card sides there are (vicc, jcardsim, vpicc-rs, virt_cacard, remote-reader): one
write a frame, no frame of no bytes, an ATR that may differ after each reset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from vccid.backends.command_queue import CommandQueue
from vccid.backends.far_listener import FarClient, FarListener, Limits, ReaderPool
from vccid.backends.ownership import OwnedSession, Ownership
from vccid.card.card import Card, CardInfo, Session
from vccid.errors import CardMute, ReaderError, RemoteProtocolError
from vccid.iso7816 import status
from vccid.links.transport import Endpoint, keep_alive, peer_name
from vccid.reader import Reader
from vccid.wire import vpcd
from vccid.wire.vpcd import Control

_log = logging.getLogger(__name__)

#: jcardsim reads nothing in the first 3 seconds of a connection.
LIMITS: Final = Limits(init=10.0, command=vpcd.LONGEST)
#: TS, 32 bytes behind it (ISO/IEC 7816-3:2006, 8.2.1).
_LONGEST_ATR: Final = 33


class VpcdListener(FarListener["ViccClient"]):
    """Listens for cards."""

    def __init__(self, endpoint: Endpoint, pool: ReaderPool, limits: Limits = LIMITS) -> None:
        """
        Raises:
            NotPermitted: the endpoint is plain TCP beyond loopback.
        """
        super().__init__(endpoint, pool, limits, ViccClient)


class ViccClient(FarClient):
    """One card."""

    def __init__(
        self,
        listener: FarListener[ViccClient],
        stream: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.peer = peer_name(writer.transport)
        self._listener = listener
        self._stream = stream
        self._writer = writer
        self._readers: dict[int, ViccReader] = {}
        keep_alive(writer.transport)

    @property
    def readers(self) -> Mapping[int, ViccReader]:
        return self._readers

    async def run(self) -> None:
        try:
            await self._serve()
        except TimeoutError:
            self._listener.tell(logging.WARNING, "the card at %s told no ATR", self.peer)
        except (RemoteProtocolError, ReaderError) as error:
            text = "the card at %s is let go: %s"
            self._listener.tell(logging.WARNING, text, self.peer, error.message)
        except OSError as error:
            self._listener.tell(logging.INFO, "the card at %s is gone: %s", self.peer, error)
        finally:
            self._writer.transport.abort()
            for number in tuple(self._readers):
                far = self._readers.pop(number)
                far.removed()
                await self._listener.remove_reader(far.reader)

    def send(self, data: bytes) -> None:
        """Send one frame."""
        self._writer.write(vpcd.serialize(data))

    def drop(self) -> None:
        """Hang up."""
        self._writer.transport.abort()

    async def _serve(self) -> None:
        parser = vpcd.Parser()
        self.send(bytes((Control.ATR,)))
        async with asyncio.timeout(self._listener.limits.init) as deadline:
            while data := await self._stream.read(65536):
                for frame in parser.feed(data):
                    if not frame:
                        # virt_cacard answers so while its card is out.
                        raise RemoteProtocolError("it sent a frame of no bytes")
                    if self._readers:
                        self._readers[0].received(frame)
                    else:
                        deadline.reschedule(None)
                        await self._insert(frame)

    async def _insert(self, atr: bytes) -> None:
        check_atr(atr)
        reader = await self._listener.add_reader("vicc", self.peer)
        self._readers[0] = ViccReader(self, reader, self._listener.limits)
        self._readers[0].inserted(atr)


def check_atr(atr: bytes) -> None:
    """
    Raises:
        RemoteProtocolError: it is none.
    """
    if not 2 <= len(atr) <= _LONGEST_ATR or atr[0] not in (0x3B, 0x3F):
        raise RemoteProtocolError(f"it sent no ATR: {atr[:40].hex(' ')}")


class ViccReader:
    """The reader that shows one card: at most one frame of it is awaited.

    Attributes:
        reader: ours, that shows it.
        name: what the far end calls it; the protocol has no names.
        peer: who is at the far end, for people.
        limits: how long it may take.
    """

    def __init__(self, client: ViccClient, reader: Reader, limits: Limits) -> None:
        self.reader = reader
        self.name = "vicc"
        self.peer = client.peer
        self.limits = limits
        self._client = client
        self._card: ViccCard | None = None
        self._answers = CommandQueue(client.send, self._too_late, limits.answer)

    @property
    def commands(self) -> int:
        """How many frames were sent that the card answers."""
        return self._answers.sent

    def inserted(self, atr: bytes) -> None:
        """The card told its ATR."""
        self._card = ViccCard(self, atr)
        self.reader.insert(self._card)

    def removed(self) -> None:
        """The connection is over."""
        card, self._card = self._card, None
        if card is not None and self.reader.card is card:
            self.reader.remove()
        self._answers.clear()

    def received(self, frame: bytes) -> None:
        """A frame of the card's.

        Raises:
            RemoteProtocolError: nobody asked; nothing would tell the next answer from it.
        """
        # A response APDU has two bytes at least, and an ATR too.
        if not self._answers.answered(frame if len(frame) > 1 else status.NO_PRECISE_DIAGNOSIS):
            raise RemoteProtocolError("it sent what nobody asked for")

    def control(self, what: Control) -> None:
        """Send what is not answered."""
        self._client.send(bytes((what,)))

    def ask(self, data: bytes, answer: asyncio.Future[bytes]) -> None:
        """Send what is answered, after what was sent before is."""
        self._answers.run(data, answer)

    def _too_late(self) -> None:
        _log.warning("the card at %s: no answer in %g s", self.peer, self.limits.answer)
        self._client.drop()


class ViccCard(Card):
    """A card at the far end."""

    def __init__(self, far: ViccReader, atr: bytes) -> None:
        self._far = far
        self._atr = atr
        self._ownership = Ownership(f"the card at {far.peer}", far.limits.idle)

    @property
    def atr(self) -> bytes:
        return self._atr

    def info(self) -> CardInfo:
        return CardInfo(kind="far", serial="", label="vicc")

    async def connect(self) -> Session:
        """Power it up, cold: what the session before had verified it has no longer.

        Raises:
            CardBusy: another host owns it.
            CardMute: it told no ATR.
        """
        session = ViccSession(self._ownership, self._atr, self._far)
        self._ownership.take(session)
        try:
            self._atr = await session.power_up()
        except BaseException:
            session.close()
            raise
        return session

    def close(self) -> None:
        self._ownership.end()


class ViccSession(OwnedSession):
    """The owner's view of the card."""

    def __init__(self, ownership: Ownership, atr: bytes, far: ViccReader) -> None:
        super().__init__(ownership, atr)
        self._far = far

    async def power_up(self) -> bytes:
        """Off, on, and the ATR, which may be another one now."""
        for what in (Control.OFF, Control.ON):
            self._far.control(what)
        ask = bytes((Control.ATR,))
        atr = await self._ask(lambda answer: self._far.ask(ask, answer))
        try:
            check_atr(atr)
        except RemoteProtocolError as error:
            raise CardMute(error.message) from error
        self._atr = atr
        return atr

    def _begin(self, command: bytes, answer: asyncio.Future[bytes]) -> None:
        # A frame of one byte would be a control.
        if 1 < len(command) <= self._far.limits.command:
            self._far.ask(command, answer)
        else:
            answer.set_result(status.WRONG_LENGTH)

    def _ended(self) -> None:
        self._far.control(Control.OFF)
