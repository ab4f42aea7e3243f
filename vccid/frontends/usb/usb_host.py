# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host's view of readers as a USB device, for every frontend that carries transfers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.interface import Interface
from vccid.frontends.ccid_host import CcidHost
from vccid.frontends.pin_pad import PinPad
from vccid.frontends.usb.opening import OpeningWatch
from vccid.reader import Reader
from vccid.usb.descriptors import Identity, Speed
from vccid.usb.device import Device
from vccid.usb.transfers import Completion, Transfer


@dataclass(frozen=True, slots=True)
class UsbReader:
    """What is shown as one USB device.

    Attributes:
        name: for logs and people.
        slots: one reader for each slot, 1 to 16.
        pin_pads: the key pad of each slot; None where none is shown. With any, the device
            announces PIN entry.
        extended: exchange of extended APDUs too.
    """

    name: str
    slots: tuple[Reader, ...]
    identity: Identity
    pin_pads: tuple[PinPad | None, ...] = (None,)
    speed: Speed = Speed.FULL
    extended: bool = True

    def descriptor(self) -> ClassDescriptor:
        """The CCID class descriptor."""
        return ClassDescriptor.for_reader(
            len(self.slots),
            extended=self.extended,
            pin_pad=any(pin_pad is not None for pin_pad in self.pin_pads),
        )


class UsbHost:
    """A USB device in the hands of one host.

    Transfers go in by `submit`; their completions come out of the callback, at once or later.
    """

    def __init__(
        self,
        reader: UsbReader,
        kind: str,
        peer: str,
        complete: Callable[[list[Completion]], None],
        given_up: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            kind, peer: as in vccid.reader.Host.
            complete: takes the transfers that ended, in order; never called from `cancel`.
            given_up: the host's driver gave the reader up while it opened it, and would open one
                that is plugged in again.
        """
        padless = [number for number, pad in enumerate(reader.pin_pads) if pad is None]
        interface = Interface(reader.descriptor(), without_pin_pad=padless)
        self.device = Device(reader.identity, interface, reader.speed)
        self._complete = complete
        self._watch = None if given_up is None else OpeningWatch(given_up)
        self._ccid = CcidHost(
            self.device.function,
            reader.slots,
            reader.pin_pads,
            self._changed,
            lambda: self.device.listening,
        )
        self._ccid.attach(kind, peer)

    def submit(self, transfer: Transfer) -> None:
        """The host begins a transfer."""
        if self._watch is not None:
            self._watch.began(transfer.endpoint, transfer.data)
        self.device.submit(transfer)
        self._run()

    def cancel(self, transfer_id: int) -> bool:
        """The host gives a transfer up; True where it will have no completion."""
        cancelled = self.device.cancel(transfer_id)
        self._look()
        return cancelled

    def reset(self) -> None:
        """The port was reset."""
        self.device.reset()
        self._run()

    async def leave(self) -> None:
        """The device is about to be unplugged: first its cards, as the host sees it."""
        await self._ccid.leave()

    def close(self) -> None:
        """The host is gone."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        self._ccid.detach()

    def _changed(self) -> None:
        """Transfers may have something to meet that did not come from the host."""
        self.device.pump()
        self._run()

    def _run(self) -> None:
        """Let completions, work and transfers follow from each other until nothing moves.

        What ended is told before the card works: the host takes its next step meanwhile.
        """
        device, outbox = self.device, self.device.function.outbox
        while device.completions or outbox.actions:
            if device.completions:
                self._complete(device.take_completions())
            if outbox.actions:
                self._ccid.work()
                device.pump()
        self._look()

    def _look(self) -> None:
        """Is anything under way still?"""
        if self._watch is not None and not self.device.pending:
            self._watch.idle()
