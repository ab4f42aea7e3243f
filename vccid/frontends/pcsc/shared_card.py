# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card behind all handles of a reader: one session, its power, and one command at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from vccid.card.card import Session
from vccid.errors import CardBusy, CardRemoved, VccidError
from vccid.frontends.pcsc.machines import MarkEvent, Power, PowerEvent
from vccid.frontends.pcsc.slot import Handle, Slot
from vccid.frontends.pcsc.turns import Turns
from vccid.reader import Reader
from vccid.wire.pcsclite import Rv, Transmit

log = logging.getLogger(__name__)

#: Seconds a card keeps its power once nobody has it open: pcscd's own grace period.
GRACE: Final = 5.0
#: Seconds an APDU may go on whose program is gone, until the card is reset.
ABANDONED: Final = 5.0


class Refused(Exception):
    """What a program asked for is not done.

    Attributes:
        rv: what it is told.
    """

    def __init__(self, rv: Rv) -> None:
        super().__init__(rv.name)
        self.rv = rv


def refuse(rv: Rv | None) -> None:
    """Raise `Refused`, where there is a reason."""
    if rv is not None:
        raise Refused(rv)


class SharedCard:
    """A reader's card.

    Attributes:
        turns: whose turn it is at the card.
        session: all programs' one, or None while the card has no power.
        commands: APDUs it was sent.
        changed: called when the card seems to have gone and come.
        grace: seconds until an unused card loses its power.
    """

    def __init__(self, reader: Reader, slot: Slot, changed: Callable[[], None]) -> None:
        self.turns = Turns()
        self.session: Session | None = None
        self.commands = 0
        self.changed = changed
        self.grace = GRACE
        self._reader = reader
        self._slot = slot
        self._resting: asyncio.TimerHandle | None = None
        self._work: tuple[Handle, asyncio.Future[bytes]] | None = None

    # -- APDUs ---------------------------------------------------------------------------------

    def transmit(
        self, handle: Handle, request: Transmit, command: bytes
    ) -> bytes | Awaitable[bytes]:
        """Run an APDU, which was checked: an answer at once, or later.

        Args:
            request: to be checked again where it has to wait.

        Raises:
            Refused: also out of the awaitable.
        """
        if self.session is None or self.turns.taken:
            return self._transmit_in_turn(handle, request, command)
        answer = self._execute(self.session, handle, command)
        if isinstance(answer, bytes):
            return answer
        self.turns.taken = True  # until `_ended`
        return self._outcome(answer)

    async def _transmit_in_turn(self, handle: Handle, request: Transmit, command: bytes) -> bytes:
        if self.session is None:
            await self.power_up(Rv.E_NOT_TRANSACTED)
        await self.turns.enter()
        try:
            refuse(self._slot.refusal(request, handle))  # what was before may be no more
            if self.session is None:
                raise Refused(Rv.E_NOT_TRANSACTED)
            answer = self._execute(self.session, handle, command)
        except Refused:
            self.turns.leave()
            raise
        if isinstance(answer, bytes):
            self.turns.leave()
            return answer
        return await self._outcome(answer)

    def _execute(
        self, session: Session, handle: Handle, command: bytes
    ) -> bytes | asyncio.Future[bytes]:
        self.commands += 1
        try:
            answer = session.execute(command)
        except VccidError as error:
            raise self.failed(error) from error
        if isinstance(answer, bytes):
            return answer
        work = asyncio.ensure_future(answer)
        self._work = handle, work
        work.add_done_callback(self._ended)
        return work

    def _ended(self, work: asyncio.Future[bytes]) -> None:
        self._work = None
        if not work.cancelled():
            work.exception()  # whoever asked may be gone
        self.turns.leave()

    async def _outcome(self, work: asyncio.Future[bytes]) -> bytes:
        # The card goes on to its answer, whether anybody waits for it or not.
        try:
            return await asyncio.shield(work)
        except VccidError as error:
            raise self.failed(error) from error

    def abandon(self, handle: Handle) -> None:
        """A program is gone. A card that never ends what it was at would be lost to all others."""
        if self._work is not None and self._work[0] is handle:
            loop = asyncio.get_running_loop()
            loop.call_later(ABANDONED, self._give_up, self._work[1], self.session)

    def _give_up(self, work: asyncio.Future[bytes], session: Session | None) -> None:
        if not work.done() and self.session is session:
            self._slot.tell(MarkEvent.RESET)
            self.power_off(PowerEvent.FAILED)

    def failed(self, error: VccidError, removed: Rv = Rv.E_NO_SMARTCARD) -> Refused:
        """What a program is told of a card's failure."""
        if isinstance(error, CardRemoved):
            card = self._reader.card
            if self.session is not None and card is not None:
                # The session is over and the card is in: to programs, it was pulled and is back.
                self.power_off(PowerEvent.FAILED)
                self._slot.removed()
                self._slot.inserted(card.atr)
                self.changed()
            return Refused(removed)
        log.warning("%s", error.message, extra={"reader": self._reader.name})
        return Refused(Rv.E_NOT_TRANSACTED)

    # -- power ---------------------------------------------------------------------------------

    async def power_up(self, otherwise: Rv) -> None:
        """Have the card powered.

        Raises:
            Refused: E_NO_SMARTCARD; E_SHARING_VIOLATION where a host elsewhere owns the card
                and a program connects; `otherwise` where it fails.
        """
        if self.session is not None:
            return
        async with self.turns:
            if self.session is not None:
                return
            refuse(Rv.E_NO_SMARTCARD if self._slot.power is Power.ABSENT else None)
            error = await self._power_on()
        if isinstance(error, CardRemoved):
            raise Refused(Rv.E_NO_SMARTCARD)
        if error is not None:
            # Of the library's calls, only SCardConnect does not repeat itself on this for ever.
            busy = isinstance(error, CardBusy) and otherwise is Rv.W_UNPOWERED_CARD
            raise Refused(Rv.E_SHARING_VIOLATION if busy else otherwise)

    async def reset(self, but: Handle | None = None) -> bool:
        """Reset the card, and let every handle but one tell; whether it answered."""
        async with self.turns:
            if self._slot.power is Power.ABSENT or self._slot.is_gone:
                return False
            self._slot.tell(MarkEvent.RESET, but)
            self.power_off(PowerEvent.FAILED)
            return await self._power_on() is None

    async def unpower(self, but: Handle) -> None:
        """Take its power away, and let every handle but one tell."""
        async with self.turns:
            if self._slot.power is not Power.ABSENT:
                self._slot.tell(MarkEvent.RESET, but)
                self.power_off(PowerEvent.UNPOWERED)

    async def _power_on(self) -> VccidError | None:
        try:
            session = await self._reader.power_on()
        except VccidError as error:
            if not isinstance(error, CardRemoved):
                log.warning("%s", error.message, extra={"reader": self._reader.name})
            return error
        self.session = session
        self._slot.powered(session.atr)
        return None

    def power_off(self, why: PowerEvent) -> None:
        """End the session at once. May be repeated."""
        session, self.session = self.session, None
        self._slot.unpowered(why)
        if session is not None:
            self._reader.power_off(session)

    def rest_if_unused(self) -> None:
        """Let it lose its power after a while, if no handle is open by then."""
        if not self._slot.handles and self.session is not None and self._resting is None:
            loop = asyncio.get_running_loop()
            self._resting = loop.call_later(self.grace, self._rest)

    def _rest(self) -> None:
        self._resting = None
        if self.turns.taken:
            self.rest_if_unused()
        elif not self._slot.handles:
            self.power_off(PowerEvent.UNUSED)

    def stop_resting(self) -> None:
        """It is used again."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
