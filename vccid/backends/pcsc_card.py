# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real card, one host's at a time."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from smartcard import scard

from vccid.backends.ownership import OwnedSession, Ownership
from vccid.backends.pcsc_watch import check_connected
from vccid.backends.pin_guard import PinGuard
from vccid.card.card import Card, CardInfo, Session
from vccid.errors import CardBusy, CardRemoved, VccidError
from vccid.iso7816 import status
from vccid.trace.lines import command_text

_log = logging.getLogger(__name__)

T = TypeVar("T")

_GONE: Final = (
    scard.SCARD_W_REMOVED_CARD,
    scard.SCARD_W_RESET_CARD,
    scard.SCARD_E_NO_SMARTCARD,
    scard.SCARD_E_NO_SERVICE,
    scard.SCARD_E_SERVICE_STOPPED,
    scard.SCARD_E_READER_UNAVAILABLE,
    scard.SCARD_E_INVALID_HANDLE,
    scard.SCARD_E_UNKNOWN_READER,
)


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """How a real card is shared.

    Attributes:
        exclusive: no other program of this host may use the card while a host here owns it.
        idle: seconds after which another host may have a card its owner does not use.
        tries_kept: a PIN is not passed on while the card has fewer tries left than this;
            0 passes every one.
    """

    exclusive: bool = False
    idle: float = 10.0
    tries_kept: int = 2


class Worker:
    """The thread that speaks to one reader's card; it does not hold up the daemon's end.

    Attributes:
        commands: APDUs passed on so far.
    """

    def __init__(self, name: str) -> None:
        self.commands = 0
        self._loop = asyncio.get_running_loop()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=f"card {name}", daemon=True).start()

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run `function` after what was asked before; what it raises comes out of the future."""
        done: asyncio.Future[T] = self._loop.create_future()

        def work() -> None:
            try:
                result = function()
            except Exception as error:  # a dead thread would answer nobody
                self._loop.call_soon_threadsafe(_fail, done, error)
            else:
                self._loop.call_soon_threadsafe(_finish, done, result)

        self._work.put(work)
        return done

    def end(self) -> None:
        """End the thread after what was asked before."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _finish(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[T], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)


class PcscCard(Card):
    """A card in a PC/SC reader."""

    def __init__(
        self,
        name: str,
        atr: bytes,
        worker: Worker,
        settings: RelaySettings,
        is_ours: Callable[[str], bool],
    ) -> None:
        self._name = name
        self._is_ours = is_ours
        self._atr = atr
        self._worker = worker
        self._settings = settings
        self._guard = PinGuard(name, settings.tries_kept)
        self._ownership = Ownership(f"the card in {name}", settings.idle)

    @property
    def atr(self) -> bytes:
        return self._atr

    def info(self) -> CardInfo:
        return CardInfo(kind="pcsc", serial="", label=self._name)

    async def connect(self) -> Session:
        connection = Connection(self._name, self._settings, self._is_ours, self._guard)
        session = PcscSession(self._ownership, self._atr, self._worker, connection)
        self._ownership.take(session)
        try:
            await self._worker.run(connection.open)
        except (VccidError, asyncio.CancelledError):
            session.close()
            raise
        return session

    def close(self) -> None:
        self._ownership.end()


class PcscSession(OwnedSession):
    """The owner's view of the card."""

    def __init__(
        self, ownership: Ownership, atr: bytes, worker: Worker, connection: Connection
    ) -> None:
        super().__init__(ownership, atr)
        self._worker = worker
        self._connection = connection

    def _begin(self, command: bytes, answer: asyncio.Future[bytes]) -> None:
        self._worker.commands += 1
        done = self._worker.run(lambda: self._connection.transmit(command))
        done.add_done_callback(lambda done: self._answered(command, done, answer))

    def _answered(
        self, command: bytes, done: asyncio.Future[bytes], answer: asyncio.Future[bytes]
    ) -> None:
        error = done.exception()
        if error is not None:
            if not isinstance(error, VccidError):
                _log.error("a real card: %s failed", command_text(command), exc_info=error)
            self.close()  # which ends `answer` too
        else:
            _finish(answer, done.result())

    def _ended(self) -> None:
        self._worker.run(self._connection.close)


class Connection:
    """PC/SC's handles; used in the worker's thread only."""

    def __init__(
        self,
        name: str,
        settings: RelaySettings,
        is_ours: Callable[[str], bool],
        guard: PinGuard,
    ) -> None:
        self._name = name
        self._guard = guard
        self._settings = settings
        self._is_ours = is_ours
        self._context: int | None = None
        self._card: int | None = None
        self._protocol = 0
        self._at_end = scard.SCARD_RESET_CARD

    def open(self) -> None:
        """Power the card on: whoever had it before leaves nothing verified.

        Raises:
            CardBusy: another program of this host has it.
            CardRemoved: it or its reader is gone.
            ReaderError: the reader is ours.
        """
        result, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        self._check(result)
        self._context = context
        mode = scard.SCARD_SHARE_EXCLUSIVE if self._settings.exclusive else scard.SCARD_SHARE_SHARED
        protocols = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        result, card, _ = scard.SCardConnect(context, self._name, mode, protocols)
        self._check(result)
        self._card = card
        check_connected(card, self._name, self._is_ours)
        result, self._protocol = scard.SCardReconnect(card, mode, protocols, scard.SCARD_RESET_CARD)
        self._check(result)
        self._guard.power_on()

    def transmit(self, command: bytes) -> bytes:
        """One command and its answer, or the guard's.

        Raises:
            CardRemoved: the card, its reader or pcscd is gone, or another program reset it.
        """
        return self._guard.exchange(command, self._transmit)

    def close(self) -> None:
        """Let go of the card, reset, so that nothing stays verified for whoever comes next."""
        card, self._card = self._card, None
        if card is not None:
            scard.SCardDisconnect(card, self._at_end)
        context, self._context = self._context, None
        if context is not None:
            scard.SCardReleaseContext(context)

    def _transmit(self, command: bytes) -> bytes:
        if self._card is None:
            raise CardRemoved("the session is over")
        protocol = (
            scard.SCARD_PCI_T0 if self._protocol == scard.SCARD_PROTOCOL_T0 else scard.SCARD_PCI_T1
        )
        result, answer = scard.SCardTransmit(self._card, protocol, list(command))
        self._check(result)
        return bytes(answer) if len(answer) > 1 else status.NO_PRECISE_DIAGNOSIS

    def _check(self, result: int) -> None:
        if result == scard.SCARD_S_SUCCESS:
            return
        reason = f"{self._name}: {scard.SCardGetErrorMessage(result)}"
        if result == scard.SCARD_E_SHARING_VIOLATION:
            raise CardBusy(reason, "another program of this host has the card for itself")
        if result == scard.SCARD_W_RESET_CARD:
            self._at_end = scard.SCARD_LEAVE_CARD  # another program's now, and has nothing of ours
        if result not in _GONE:
            _log.warning("%s", reason)
        raise CardRemoved(reason)
