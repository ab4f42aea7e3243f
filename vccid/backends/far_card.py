# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card at the far end of a VSC connection, and the reader it is in.

The protocol has no power-on and no reset: what one host has verified, the card still has
verified for the next. So a host owns it, and the next one waits (`ownership`).
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from typing import Protocol

from vccid.backends.command_queue import CommandQueue
from vccid.backends.far_listener import Limits
from vccid.backends.ownership import OwnedSession, Ownership
from vccid.card.card import Card, CardInfo, Session
from vccid.iso7816 import status
from vccid.reader import Reader
from vccid.wire import vsc

_log = logging.getLogger(__name__)


class Client(Protocol):
    """The connection that a far reader is at the end of.

    Attributes:
        peer: who is there, for people.
    """

    peer: str

    @abstractmethod
    def send(self, message: vsc.Message) -> None:
        """Send it a message."""

    @abstractmethod
    def drop(self) -> None:
        """Hang up."""


class FarReader:
    """One reader of one client: at most one command under way, answered in order.

    Attributes:
        reader: ours, that shows it.
        name: what the far end calls it.
        peer: who is at the far end, for people.
    """

    def __init__(
        self, client: Client, reader_id: int, reader: Reader, name: str, limits: Limits
    ) -> None:
        self.reader = reader
        self.limits = limits
        self.name = name
        self.peer = client.peer
        self._client = client
        self._card: FarCard | None = None
        self._commands = CommandQueue(
            lambda command: client.send(vsc.Apdu(reader_id, command)), self._too_late, limits.answer
        )

    @property
    def commands(self) -> int:
        """How many APDUs were sent."""
        return self._commands.sent

    def inserted(self, atr: bytes) -> int:
        """A card came, or was reset or exchanged; the code for the VSC_Error in answer."""
        if not 2 <= len(atr) <= 33 or atr[0] not in (0x3B, 0x3F):
            _log.warning("VSC client %s sent no ATR: %s", self._client.peer, atr[:40].hex(" "))
            return vsc.GENERAL_ERROR
        self.removed()
        if self.reader.card is not None:
            return vsc.CARD_ALREADY_INSERTED  # somebody put another one in
        self._card = FarCard(self, atr, self.name or "far card")
        self.reader.insert(self._card)
        return vsc.SUCCESS

    def removed(self) -> None:
        """The card left, or its client did."""
        card, self._card = self._card, None
        if card is not None and self.reader.card is card:
            self.reader.remove()
        self._commands.clear()

    def run(self, command: bytes, answer: asyncio.Future[bytes]) -> None:
        """Have the card run a command, after those under way."""
        self._commands.run(command, answer)

    def answered(self, response: bytes) -> None:
        """The card's answer to the command under way."""
        if not self._commands.answered(
            response if len(response) > 1 else status.NO_PRECISE_DIAGNOSIS
        ):
            _log.debug("VSC client %s answered what nobody asked", self._client.peer)

    def failed(self, code: int) -> None:
        """VSC_Error: vscclient sends it for a command it could not run, code without sense."""
        if self._commands.is_waiting:
            _log.warning("VSC client %s could not run a command: %d", self._client.peer, code)
            self._commands.answered(status.NO_PRECISE_DIAGNOSIS)

    def _too_late(self) -> None:
        _log.warning("VSC client %s: no answer in %g s", self._client.peer, self.limits.answer)
        self._client.drop()


class FarCard(Card):
    """A card at the far end."""

    def __init__(self, far: FarReader, atr: bytes, label: str) -> None:
        self._far = far
        self._atr = atr
        self._label = label
        self._ownership = Ownership(label, far.limits.idle)

    @property
    def atr(self) -> bytes:
        return self._atr

    def info(self) -> CardInfo:
        return CardInfo(kind="far", serial="", label=self._label)

    async def connect(self) -> Session:
        session = FarSession(self._ownership, self._atr, self._far)
        self._ownership.take(session)
        return session

    def close(self) -> None:
        self._ownership.end()


class FarSession(OwnedSession):
    """The owner's view of a far card."""

    def __init__(self, ownership: Ownership, atr: bytes, far: FarReader) -> None:
        super().__init__(ownership, atr)
        self._far = far

    def _begin(self, command: bytes, answer: asyncio.Future[bytes]) -> None:
        if len(command) > self._far.limits.command:
            answer.set_result(status.WRONG_LENGTH)
        else:
            self._far.run(command, answer)

    def _ended(self) -> None:
        """Nothing to say: the protocol has no power-off."""
