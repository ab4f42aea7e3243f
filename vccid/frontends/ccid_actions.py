# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does what a CCID slot asks for, with its reader's card and the people at its key pad."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from vccid.card.card import Session
from vccid.ccid.actions import AskPin, Cancel, PowerOff, PowerOn, Transmit
from vccid.ccid.codes import Error
from vccid.ccid.pin_entry import PinEnd, PinRequest
from vccid.ccid.slot import Slot
from vccid.errors import CardBusy, CardMute, CardRemoved, LocalProtocolError, VccidError
from vccid.frontends.pin_pad import PinPad
from vccid.reader import Host, Reader
from vccid.tpdu.tpdu_session import TpduSession

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds between time extensions; libccid's shortest patience is 3.
EXTENSION_PERIOD: Final = 1.0
#: Seconds a card that speaks T=1 works before it asks for a block waiting time more; ours have
#: 1.4 (BWI 4).
BLOCK_PATIENCE: Final = 0.5


class SlotActions:
    """One host's session with the card of one slot, and what it waits for."""

    def __init__(
        self,
        slot: Slot,
        reader: Reader,
        host: Host,
        pin_pad: PinPad | None,
        changed: Callable[[], None],
        *,
        by_tpdu: bool,
    ) -> None:
        """
        Args:
            changed: as of `CcidHost`.
            by_tpdu: what the host sends is TPDUs, not APDUs.
        """
        self._slot = slot
        self._reader = reader
        self._host = host
        self._pin_pad = pin_pad
        self._changed = changed
        self._by_tpdu = by_tpdu
        self._session: Session | None = None
        self._line: Session | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._extension: asyncio.TimerHandle | None = None

    def do(self, action: Transmit | PowerOn | PowerOff | AskPin | Cancel) -> None:
        """Do it, and tell the slot what came of it."""
        match action:
            case Transmit():
                self._transmit(action)
            case PowerOn():
                self.power_off()
                # libccid takes a time extension of IccPowerOn for an ATR of no bytes.
                self._await(action.work, self._power_on(), self._slot.powered, extend=False)
            case PowerOff():
                self.power_off()
            case AskPin():
                self._await(action.work, self._ask_pin(action.request), self._typed)
            case Cancel():
                self._drop_waiting()

    def close(self) -> None:
        """Wait for nothing more, and end the session."""
        self._drop_waiting()
        self.power_off()

    # --- the card ------------------------------------------------------------------------

    async def _power_on(self) -> bytes:
        # Nothing waits between the session's start and its being kept here, so a cancelled
        # power-on leaves none behind.
        self._session = self._line = await self._reader.power_on()
        if self._by_tpdu:
            self._line = TpduSession(self._session, lambda: asyncio.sleep(BLOCK_PATIENCE))
        return self._session.atr

    def power_off(self) -> None:
        """End the session. May be repeated."""
        session, self._session = self._session, None
        line, self._line = self._line, None
        if session is not None and line is not None:
            self._reader.power_off(session)
            line.close()

    def _transmit(self, action: Transmit) -> None:
        self._host.commands += 1
        if self._line is None:
            self._slot.failed(action.work, Error.ICC_MUTE)
            return
        try:
            answer = self._line.execute(action.apdu)
        except Exception as error:  # whatever it is, it is this slot's alone
            self._slot.failed(action.work, self._complain(error))
            return
        if isinstance(answer, bytes):
            self._slot.answered(action.work, answer)
        else:
            self._await(action.work, answer, self._slot.answered)

    # --- the key pad ---------------------------------------------------------------------

    async def _ask_pin(self, request: PinRequest) -> tuple[str, ...] | PinEnd:
        if self._pin_pad is None:
            raise LocalProtocolError("a PIN is asked for at a reader without a key pad")
        return await self._pin_pad.ask(f"{self._host.kind} {self._host.peer}", request)

    def _typed(self, work: int, typed: tuple[str, ...] | PinEnd) -> None:
        if isinstance(typed, PinEnd):
            self._slot.not_typed(work, typed)
        else:
            self._slot.typed(work, typed)

    # --- waiting -------------------------------------------------------------------------

    def _await(
        self,
        work: int,
        coming: Awaitable[T],
        arrived: Callable[[int, T], None],
        *,
        extend: bool = True,
    ) -> None:
        self._drop_waiting()
        task = asyncio.ensure_future(coming)
        self._waiting = task
        task.add_done_callback(partial(self._over, work, arrived))
        if extend:
            self._extend_later()

    def _over(self, work: int, arrived: Callable[[int, T], None], task: asyncio.Future[T]) -> None:
        """What was awaited came, or failed."""
        given_up = task.cancelled()
        error = None if given_up else task.exception()
        if given_up or task is not self._waiting:
            return  # the interface knows, and nobody asks for the reason
        self._waiting = None
        self._extend_no_more()
        if error is not None:
            self._slot.failed(work, self._complain(error))
        else:
            arrived(work, task.result())
        self._changed()

    def _complain(self, error: BaseException) -> Error:
        """Log why the card did not answer, and say how CCID calls it."""
        where = {"reader": self._reader.name}
        if isinstance(error, CardRemoved):
            return Error.ICC_MUTE
        if isinstance(error, CardBusy | CardMute):
            log.warning("%s", error.message, extra=where)
            return Error.ICC_MUTE
        expected = isinstance(error, VccidError)
        log.error("the card failed: %s", error, extra=where, exc_info=None if expected else error)
        return Error.HW_ERROR

    def _drop_waiting(self) -> None:
        task, self._waiting = self._waiting, None
        self._extend_no_more()
        if task is not None:
            task.cancel()

    def _extend_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._extension = loop.call_later(EXTENSION_PERIOD, self._extend)

    def _extend(self) -> None:
        self._slot.work.extend()
        self._extend_later()
        self._changed()

    def _extend_no_more(self) -> None:
        if self._extension is not None:
            self._extension.cancel()
            self._extension = None
