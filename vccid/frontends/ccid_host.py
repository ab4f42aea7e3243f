# SPDX-License-Identifier: LGPL-2.1-or-later
"""Binds a CCID interface to the readers whose cards it shows.

The interface is pure; here is its clock, and in `ccid_actions` are its sessions and the people at
its key pad. All runs on one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from vccid.ccid.actions import Action, Noticed
from vccid.ccid.codes import Feature
from vccid.ccid.interface import Interface
from vccid.ccid.slot import Slot
from vccid.frontends.ccid_actions import SlotActions
from vccid.frontends.pin_pad import PinPad
from vccid.process.cleanup import take_all
from vccid.reader import Host, Reader

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
            _Slot(self, slot, reader, pin_pad, kind, peer)
            for slot, reader, pin_pad in zip(
                self.interface.slots, self._readers, self._pin_pads, strict=True
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
    """One slot as this host sees it: who looks at its reader, and what of that the slot hears."""

    def __init__(
        self,
        owner: CcidHost,
        slot: Slot,
        reader: Reader,
        pin_pad: PinPad | None,
        kind: str,
        peer: str,
    ) -> None:
        self.kind = kind
        self.peer = peer
        self.seen = reader.generation
        self._owner = owner
        self._slot = slot
        self._reader = reader
        by_tpdu = Feature.TPDU in owner.interface.descriptor.features
        self._actions = SlotActions(slot, reader, self, pin_pad, owner.changed, by_tpdu=by_tpdu)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._came = asyncio.get_running_loop().time()
        self._leaving = False
        reader.attach(self)
        if reader.card is not None:
            self.seen -= 1
            slot.insert(reader.generation)
            self._expect_look(reader.generation)

    def close(self) -> None:
        for name in tuple(self._timers):
            self._stop(name)
        self._actions.close()
        self._reader.detach(self)

    @property
    def host_sees_card(self) -> bool:
        """Whether the host takes the slot for one with a card."""
        return self._slot.host_sees_card

    def leave(self) -> None:
        """Be an empty slot from now on. May be repeated."""
        if not self._leaving and self._reader.card is not None:
            self._actions.power_off()
            self._slot.remove(self._reader.generation + 1)
        self._leaving = True

    def card_changed(self) -> None:
        if self._leaving:
            return
        generation = self._reader.generation
        if self._reader.card is None:
            self._actions.power_off()
            self._slot.remove(generation)
            self._later("settle", EXCHANGE_GAP, self._settle)
        else:
            self._slot.insert(generation)
        self._expect_look(generation)
        self._owner.changed()

    def do(self, action: Action) -> None:
        if isinstance(action, Noticed):
            self._reader.acknowledge(self, action.stamp)
        else:
            self._actions.do(action)

    # --- time ----------------------------------------------------------------------------

    def _settle(self) -> None:
        self._slot.settle()
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
