# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader as it is shown to programs: what they ask of it, done with its card."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from vccid.errors import VccidError
from vccid.frontends.pcsc import features
from vccid.frontends.pcsc.machines import Power, PowerEvent
from vccid.frontends.pcsc.shared_card import Refused, SharedCard, refuse
from vccid.frontends.pcsc.slot import Handle, Slot
from vccid.reader import Host, Reader
from vccid.wire.pcsclite import Connect, Disposition, Reconnect, Rv, Share

if TYPE_CHECKING:
    from vccid.frontends.pcsc.pin_pad_controls import PinPadControls
    from vccid.frontends.pin_pad import PinPad

#: Seconds the place of a program is kept that was told to ask again: it does so after 0.1.
PLACE_KEPT: Final = 0.2


class ShownReader(Host):
    """One reader; all programs that use it share its card.

    Attributes:
        reader: the slot behind it.
        slot: how it stands.
        card: what is in.
        changed: called when the card came or went, or the sharing has changed.
    """

    kind = "pcsc"
    peer = "libpcsclite"

    def __init__(
        self,
        reader: Reader,
        name: bytes,
        serial: str,
        pin_pad: PinPad | None,
        changed: Callable[[], None],
    ) -> None:
        """Args: name: as programs see it, UTF-8 and at most 127 bytes."""
        self.reader = reader
        self.slot = Slot(name)
        self.card = SharedCard(reader, self.slot, changed)
        self.changed = changed
        self.seen = -1
        self._serial = serial
        self._controls: PinPadControls | None = None
        if pin_pad is not None:
            from vccid.frontends.pcsc.pin_pad_controls import PinPadControls

            self._controls = PinPadControls(reader, pin_pad, "a program of PC/SC")
        if reader.card is not None:
            self.slot.inserted(reader.card.atr)
        reader.attach(self)
        reader.acknowledge(self, reader.generation)

    @property
    def commands(self) -> int:  # type: ignore[override]  # the card counts them
        """APDUs it sent."""
        return self.card.commands

    def card_changed(self) -> None:
        card = self.reader.card
        if self.slot.power is not Power.ABSENT:
            self.card.session = None  # the reader has closed it
            self.slot.removed()
        if card is not None:
            self.slot.inserted(card.atr)
        self.changed()
        self.reader.acknowledge(self, self.reader.generation)

    def leave(self) -> None:
        """The reader is no more: its handles lead nowhere."""
        self.slot.gone()
        self.card.stop_resting()
        self.card.power_off(PowerEvent.UNUSED)
        self.reader.detach(self)

    # -- handles -------------------------------------------------------------------------------

    async def open(self, handle: Handle, request: Connect) -> None:
        """SCardConnect, whose mode and protocols are good.

        Raises:
            Refused: it cannot be had so.
        """
        slot, direct = self.slot, request.mode == Share.DIRECT
        if slot.lock.exclusive is not None:
            raise Refused(Rv.E_SHARING_VIOLATION)
        if await self.pass_lock(handle, None):
            slot.lock.end(handle)
        try:
            if not direct and not slot.is_gone:
                await self.card.power_up(Rv.W_UNPOWERED_CARD)
            refuse(Rv.E_UNKNOWN_READER if slot.is_gone else None)
            refuse(slot.choose(handle, request.protocols, direct=direct))
            refuse(slot.share(handle, request.mode))
        finally:
            # Its power may have come on for this one alone.
            self.card.rest_if_unused()
        self.card.stop_resting()
        self.changed()

    async def reopen(self, handle: Handle, request: Reconnect) -> None:
        """SCardReconnect, which was checked.

        Raises:
            Refused: it cannot be had so.
        """
        slot, direct = self.slot, request.mode == Share.DIRECT
        refuse(Rv.E_NO_SMARTCARD if slot.power is Power.ABSENT else None)
        if request.initialization != Disposition.LEAVE:
            answered = await self.card.reset(but=handle)
            refuse(None if answered else Rv.W_UNRESPONSIVE_CARD)
        elif not direct:
            await self.card.power_up(Rv.W_UNRESPONSIVE_CARD)
        refuse(Rv.E_INVALID_VALUE if handle.is_gone else None)
        refuse(Rv.E_NO_SMARTCARD if slot.power is Power.ABSENT else None)
        refuse(slot.choose(handle, request.protocols, direct=direct))
        refuse(slot.share(handle, request.mode))
        slot.reconnected(handle)
        self.changed()

    async def close(self, handle: Handle, disposition: int) -> None:
        """SCardDisconnect, once nobody else's transaction is in its way."""
        try:
            if disposition == Disposition.RESET:
                await self.card.reset(but=handle)
            elif disposition == Disposition.UNPOWER:
                await self.card.unpower(but=handle)
        finally:
            self.forget(handle)

    def forget(self, handle: Handle) -> None:
        """Close a handle and leave the card as it is. May be repeated."""
        if handle in self.slot.handles:
            self.slot.close(handle)
            self.changed()
            self.card.rest_if_unused()

    def abandon(self, handle: Handle) -> Coroutine[Any, Any, None] | None:
        """Close the handle of a program that is gone; returns what of that takes longer.

        Whose transaction was open has its card reset first: the next in the queue hears of it.
        """
        lock = self.slot.lock
        self.card.abandon(handle)
        held = lock.exclusive is handle or lock.owner is handle
        if held and not handle.mark:
            return self.close(handle, Disposition.RESET)
        self.forget(handle)
        return None

    async def pass_lock(
        self, handle: Handle, limit: float | None, *, to_begin: bool = False
    ) -> bool:
        """Wait until nobody else's transaction bars the way.

        Args:
            limit: seconds to wait, or None for as long as it takes.
            to_begin: who was here before, and is to ask again, goes first.

        Returns:
            Whether the handle has begun by that; otherwise the way was free.

        Raises:
            Refused: E_SHARING_VIOLATION; its place is kept for a while.
        """
        lock, loop = self.slot.lock, asyncio.get_running_loop()
        if not lock.bars(handle) and not (to_begin and lock.is_behind(handle)):
            return False
        granted = loop.create_future()
        lock.queue(handle, lambda: granted.set_result(None))
        try:
            await asyncio.wait((granted,), timeout=limit)
        except asyncio.CancelledError:
            if granted.done():
                lock.end(handle)
            else:
                lock.leave_queue(handle)
            raise
        if not granted.done():
            lock.send_away(handle)
            loop.call_later(PLACE_KEPT, lock.forget, handle)
            raise Refused(Rv.E_SHARING_VIOLATION)
        return True

    # -- what is asked of the reader itself ----------------------------------------------------

    async def control(self, code: int, data: bytes) -> bytes:
        """SCardControl, with or without a card.

        Raises:
            Refused: nobody serves this code, or its work failed.
        """
        own = features.own_answer(code, self._serial)
        if self._controls is None:
            added = None
        else:
            async with self.card.turns:
                added = await self._pin_pad(self._controls, code, data)
        if own is None and added is None:
            raise Refused(Rv.E_UNSUPPORTED_FEATURE)
        return (own or b"") + (added or b"")

    async def _pin_pad(self, controls: PinPadControls, code: int, data: bytes) -> bytes | None:
        answer = controls.answer(code, data, self.card.session)
        if answer is None or isinstance(answer, bytes):
            return answer
        try:
            return await answer
        except VccidError as error:
            raise self.card.failed(error, removed=Rv.E_NOT_TRANSACTED) from error

    def attribute(self, number: int) -> bytes:
        """SCardGetAttrib.

        Raises:
            Refused: it has none such.
        """
        slot = self.slot
        powered = slot.power is Power.ON
        value = features.attribute(
            number, name=slot.name, serial=self._serial, atr=slot.atr, powered=powered
        )
        if value is None:
            raise Refused(Rv.E_UNSUPPORTED_FEATURE)
        return value
