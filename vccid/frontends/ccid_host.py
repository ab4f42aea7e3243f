# SPDX-License-Identifier: LGPL-2.1-or-later
"""Binds a CCID interface to the readers whose cards it shows.

The interface is pure; here are its clock, its sessions and the people at its key pad. All
runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from vccid.card.card import Session
from vccid.ccid.actions import Action, AskPin, Cancel, Noticed, PowerOff, PowerOn, Transmit
from vccid.ccid.codes import Error, Feature
from vccid.ccid.interface import Interface
from vccid.ccid.pin_entry import PinEnd, PinRequest
from vccid.errors import CardBusy, CardMute, CardRemoved, LocalProtocolError, VccidError
from vccid.frontends.pin_pad import PinPad
from vccid.process.cleanup import take_all
from vccid.reader import Host, Reader
from vccid.tpdu.tpdu_session import TpduSession

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds between time extensions; libccid's shortest patience is 3.
EXTENSION_PERIOD: Final = 1.0
#: Seconds a card that speaks T=1 works before it asks for a block waiting time more; ours have
#: 1.4 (BWI 4).
BLOCK_PATIENCE: Final = 0.5
#: Seconds an exchanged card is held back so that the host sees the empty slot first.
EXCHANGE_GAP: Final = 0.5
#: Seconds after which a host that does not wait for news is taken not to look at all; one that
#: has just come takes its time to find its driver (an emulated one two seconds).
DEAF_AFTER: Final = 1.0
COMES_WITHIN: Final = 10.0
#: Seconds for a host to see its slots empty before it loses them, and those without a command
#: after which it is taken to be through.
LEAVES_WITHIN: Final = 2.0
_QUIET: Final = 0.25


class CcidHost:
    """One host's CCID interface over one reader for each slot."""

    def __init__(
        self,
        interface: Interface,
        readers: Sequence[Reader],
        pin_pads: Sequence[PinPad | None],
        changed: Callable[[], None],
        is_listening: Callable[[], bool],
    ) -> None:
        """
        Args:
            pin_pads: the key pad of each reader; None where PINs are not typed there.
            changed: there may be something new for the host; it calls `work` in its turn.
            is_listening: the host waits for news of the slots.
        """
        self.interface = interface
        self.changed = changed
        self.is_listening = is_listening
        self._readers = readers
        self._pin_pads = pin_pads
        self._slots: list[_Slot] = []

    def attach(self, kind: str, peer: str) -> None:
        """The host begins to look at the readers."""
        self._slots = [
            _Slot(self, number, reader, pin_pad, kind, peer)
            for number, (reader, pin_pad) in enumerate(
                zip(self._readers, self._pin_pads, strict=True)
            )
        ]

    async def leave(self) -> None:
        """Empty the slots for this host, and give it a moment to see them so. May be repeated.

        A reader that goes with its card can stop pcscd for good (pcsc-lite up to 2.3.3 at least):
        EHDestroyEventHandler waits for a thread to see the 0xFFFF it has put into hLockId, which
        RFSetReaderEventState, called by that very thread for the card that left, makes 0 again.
        It asks twice before it believes, and libccid waits seconds for a response that a device of
        several slots took with it: hence the quiet.
        """
        for slot in self._slots:
            slot.leave()
        if not any(slot.host_sees_card for slot in self._slots):
            return
        self.changed()
        try:
            async with asyncio.timeout(LEAVES_WITHIN):
                seqs: tuple[int, ...] | None = None
                while not (self._knows_empty_slots() and self.interface.last_seqs == seqs):
                    seqs = self.interface.last_seqs
                    await asyncio.sleep(_QUIET)
        except TimeoutError:
            pass  # nobody looks: no driver is there, or its program has stopped

    def _knows_empty_slots(self) -> bool:
        """Whether the host has asked every slot and waits for news again, or is gone itself."""
        known = not any(slot.host_sees_card for slot in self._slots)
        return known and (self.is_listening() or not self._slots)

    def detach(self) -> None:
        """The host is gone: end its sessions and all it waits for."""
        slots, self._slots = self._slots, []
        take_all(*(slot.close for slot in slots))

    def work(self) -> bool:
        """Do what the interface asks for; whether there was anything.

        It may ask for more then.
        """
        actions = self.interface.take_actions()
        for action in actions:
            self._slots[action.slot].do(action)
        return bool(actions)


class _Slot(Host):
    """One slot's session and timers."""

    def __init__(
        self,
        owner: CcidHost,
        number: int,
        reader: Reader,
        pin_pad: PinPad | None,
        kind: str,
        peer: str,
    ) -> None:
        self.kind = kind
        self.peer = peer
        self.seen = reader.generation
        self._owner = owner
        self._interface = owner.interface
        self._number = number
        self._reader = reader
        self._pin_pad = pin_pad
        self._session: Session | None = None
        self._line: Session | None = None
        self._waiting: asyncio.Future[Any] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._came = asyncio.get_running_loop().time()
        self._leaving = False
        reader.attach(self)
        if reader.card is not None:
            self.seen -= 1
            self._interface.insert(number, reader.generation)
            self._expect_look(reader.generation)

    def close(self) -> None:
        for name in tuple(self._timers):
            self._stop(name)
        self._drop_waiting()
        self._power_off()
        self._reader.detach(self)

    @property
    def host_sees_card(self) -> bool:
        """Whether the host takes the slot for one with a card."""
        return self._interface.host_sees_card(self._number)

    def leave(self) -> None:
        """Be an empty slot from now on. May be repeated."""
        if not self._leaving and self._reader.card is not None:
            self._power_off()
            self._interface.remove(self._number, self._reader.generation + 1)
        self._leaving = True

    def card_changed(self) -> None:
        if self._leaving:
            return
        generation = self._reader.generation
        if self._reader.card is None:
            self._power_off()
            self._interface.remove(self._number, generation)
            self._later("settle", EXCHANGE_GAP, self._settle)
        else:
            self._interface.insert(self._number, generation)
        self._expect_look(generation)
        self._owner.changed()

    def do(self, action: Action) -> None:
        match action:
            case Transmit():
                self._transmit(action)
            case PowerOn():
                self._power_off()
                # libccid takes a time extension of IccPowerOn for an ATR of no bytes.
                self._await(action.work, self._power_on(), self._powered, extend=False)
            case PowerOff():
                self._power_off()
            case AskPin():
                self._await(action.work, self._ask_pin(action.request), self._typed)
            case Cancel():
                self._drop_waiting()
            case Noticed():
                self._reader.acknowledge(self, action.stamp)

    # --- the card ------------------------------------------------------------------------

    async def _power_on(self) -> bytes:
        # Nothing waits between the session's start and its being kept here, so a cancelled
        # power-on leaves none behind.
        self._session = self._line = await self._reader.power_on()
        if Feature.TPDU in self._interface.descriptor.features:
            self._line = TpduSession(self._session, lambda: asyncio.sleep(BLOCK_PATIENCE))
        return self._session.atr

    def _powered(self, work: int, atr: bytes) -> None:
        self._interface.powered(self._number, work, atr)

    def _power_off(self) -> None:
        session, self._session = self._session, None
        line, self._line = self._line, None
        if session is not None and line is not None:
            self._reader.power_off(session)
            line.close()

    def _transmit(self, action: Transmit) -> None:
        self.commands += 1
        if self._line is None:
            self._interface.failed(self._number, action.work, Error.ICC_MUTE)
            return
        try:
            answer = self._line.execute(action.apdu)
        except Exception as error:  # whatever it is, it is this slot's alone
            self._interface.failed(self._number, action.work, self._complain(error))
            return
        if isinstance(answer, bytes):
            self._answered(action.work, answer)
        else:
            self._await(action.work, answer, self._answered)

    def _answered(self, work: int, answer: bytes) -> None:
        self._interface.answered(self._number, work, answer)

    # --- the key pad ---------------------------------------------------------------------

    async def _ask_pin(self, request: PinRequest) -> tuple[str, ...] | PinEnd:
        if self._pin_pad is None:
            raise LocalProtocolError("a PIN is asked for at a reader without a key pad")
        return await self._pin_pad.ask(f"{self.kind} {self.peer}", request)

    def _typed(self, work: int, typed: tuple[str, ...] | PinEnd) -> None:
        if isinstance(typed, PinEnd):
            self._interface.not_typed(self._number, work, typed)
        else:
            self._interface.typed(self._number, work, typed)

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
            self._later("extend", EXTENSION_PERIOD, self._extend)

    def _over(self, work: int, arrived: Callable[[int, T], None], task: asyncio.Future[T]) -> None:
        """What was awaited came, or failed."""
        given_up = task.cancelled()
        error = None if given_up else task.exception()
        if given_up or task is not self._waiting:
            return  # the interface knows, and nobody asks for the reason
        self._waiting = None
        self._stop("extend")
        if error is not None:
            self._interface.failed(self._number, work, self._complain(error))
        else:
            arrived(work, task.result())
        self._owner.changed()

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
        self._stop("extend")
        if task is not None:
            task.cancel()

    def _extend(self) -> None:
        self._interface.extend(self._number)
        self._later("extend", EXTENSION_PERIOD, self._extend)
        self._owner.changed()

    def _settle(self) -> None:
        self._interface.settle(self._number)
        self._owner.changed()

    def _expect_look(self, generation: int) -> None:
        still_coming = self._came + COMES_WITHIN - asyncio.get_running_loop().time()
        delay = max(DEAF_AFTER, still_coming)
        self._later("deaf", delay, partial(self._nobody_looks, generation))

    def _nobody_looks(self, generation: int) -> None:
        """Nobody waits for this host to see the change when it does not look."""
        if not self._owner.is_listening():
            self._reader.acknowledge(self, generation)

    def _later(self, name: str, delay: float, call: Callable[[], None]) -> None:
        self._stop(name)
        self._timers[name] = asyncio.get_running_loop().call_later(delay, call)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
