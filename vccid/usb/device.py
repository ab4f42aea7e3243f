# SPDX-License-Identifier: LGPL-2.1-or-later
"""The reader as a USB device: transfers in, completions out (USB 2.0, 5, 8.5, 9.4).

No I/O: whoever carries the transfers submits and cancels them, and takes completions after
every call.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from vccid.ccid.interface import Interface
from vccid.errors import LocalProtocolError
from vccid.usb.bulk_in import BulkInPipe
from vccid.usb.control_pipe import ControlPipe
from vccid.usb.descriptors import (
    BULK_IN,
    BULK_OUT,
    BULK_SIZE,
    INTERRUPT_IN,
    Descriptors,
    Identity,
    Speed,
)
from vccid.usb.transfers import Completion, Status, Transfer

_IN: Final = 0x80
_CONTROL: Final = 0


class Device:
    """One USB device with one CCID interface.

    Attributes:
        function: the CCID interface; who tells it something calls `pump` afterwards.
        completions: what ended and was not taken yet.
    """

    def __init__(self, identity: Identity, function: Interface, speed: Speed = Speed.FULL) -> None:
        self.function = function
        self.descriptors = Descriptors(identity, function.descriptor, speed)
        self.speed = speed
        self._packet = BULK_SIZE[speed]
        self._bulk_in = BulkInPipe(function, self._packet)
        self._control = ControlPipe(self.descriptors, function, self._bulk_in.forget)
        self._halted = self._control.halted
        self._out: deque[Transfer] = deque()
        self._in: deque[Transfer] = deque()
        self._interrupt: deque[Transfer] = deque()
        self._queues = {BULK_OUT: self._out, BULK_IN: self._in, INTERRUPT_IN: self._interrupt}
        self.completions: list[Completion] = []

    @property
    def configured(self) -> bool:
        """The host has chosen the configuration."""
        return self._control.configuration != 0

    @property
    def listening(self) -> bool:
        """The host waits for news of the slots."""
        return bool(self._interrupt)

    @property
    def pending(self) -> int:
        """Transfers without completion."""
        return sum(map(len, self._queues.values()))

    def submit(self, transfer: Transfer) -> None:
        """A host begins a transfer."""
        if transfer.endpoint == _CONTROL:
            self.completions.append(self._control.execute(transfer))
        else:
            queue = self._queues.get(transfer.endpoint | (_IN if transfer.is_in else 0))
            if queue is None:  # no such endpoint: nothing answers there
                self.completions.append(Completion(transfer, Status.STALL))
                return
            queue.append(transfer)
        self.pump()

    def cancel(self, transfer_id: int) -> bool:
        """The host gives a transfer up.

        Returns:
            True where it was pending: it gets no completion, and nothing it could have
            fetched is lost. False where it had ended already.
        """
        for queue in self._queues.values():
            for transfer in queue:
                if transfer.id == transfer_id:
                    queue.remove(transfer)
                    return True
        return False

    def take_completions(self) -> list[Completion]:
        """What ended since the last call, in order; each is given once."""
        completions, self.completions = self.completions, []
        return completions

    def pump(self) -> None:
        """Let waiting transfers meet what there is for them."""
        while True:
            if self._out:
                self._pump_out()
            if self._in:
                self._pump_in()
            # What was fetched may have made room for another command.
            if not self._out or not self.function.accepts:
                break
        if self._interrupt and (self.function.outbox.changed or INTERRUPT_IN in self._halted):
            self._pump_interrupt()

    def reset(self) -> None:
        """The port was reset or the device unplugged: unconfigured, nothing half-way."""
        for queue in self._queues.values():
            queue.clear()
        self.completions.clear()
        self._control.reset()

    def _pump_out(self) -> None:
        queue = self._out
        while queue:
            if BULK_OUT in self._halted:
                self._end(queue, Status.STALL)
            elif self.function.accepts:
                transfer = queue[0]
                data = transfer.data
                self._bulk_in.command(data)
                if self.function.bulk_out(data, len(data) % self._packet != 0 or not data):
                    self._end(queue, Status.DONE, length=len(data))
                else:
                    self._halted.add(BULK_OUT)
                    self._end(queue, Status.STALL)
            else:
                return

    def _pump_in(self) -> None:
        queue = self._in
        while queue:
            if BULK_IN in self._halted:
                self._end(queue, Status.STALL)
            else:
                end = self._bulk_in.piece(queue[0].length)
                if end is None:
                    return
                status, data = end
                self._end(queue, status, data=data)

    def _pump_interrupt(self) -> None:
        queue = self._interrupt
        while queue:
            if INTERRUPT_IN in self._halted:
                self._end(queue, Status.STALL)
            elif not self.function.outbox.changed:
                return
            elif queue[0].length < self.function.notification_size:
                self._end(queue, Status.OVERFLOW)
            else:
                self._end(queue, Status.DONE, data=self.function.next_notification())

    def _end(
        self, queue: deque[Transfer], status: Status, *, data: bytes = b"", length: int = 0
    ) -> None:
        transfer = queue.popleft()
        moved = len(data) or length
        if moved > transfer.length:
            raise LocalProtocolError("more was answered than the transfer asks for")
        self.completions.append(Completion(transfer, status, moved, data))
