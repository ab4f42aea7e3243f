# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over the CCID interface: any command pipe, any order of events, answers well formed.

python -m tests.fuzz.fuzz_ccid -runs=10000000
"""

import struct
import sys

import atheris

with atheris.instrument_imports(include=["vccid.ccid"]):
    from vccid.ccid import gempctwin
    from vccid.ccid.actions import AskPin, PowerOn, Transmit
    from vccid.ccid.class_descriptor import ClassDescriptor
    from vccid.ccid.codes import Error
    from vccid.ccid.interface import Interface
    from vccid.ccid.pin_entry import PinEnd

ATR = bytes.fromhex("3BF71300008131FE458031C173C021C0CD")
DESCRIPTORS = (
    ClassDescriptor.for_reader(),
    ClassDescriptor.for_reader(2, extended=False, pin_pad=True),
    ClassDescriptor.for_reader(1, max_message=64, pin_pad=True, clock_stop=True),
    gempctwin.descriptor(pin_pad=True),
)


class Owner:
    """Does, or fails to do, what the interface asks, as the input says."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self.stamp = 0
        self.open: list[PowerOn | Transmit | AskPin] = []

    def collect(self) -> None:
        wanted = (PowerOn, Transmit, AskPin)
        self.open += [a for a in self.interface.take_actions() if isinstance(a, wanted)]

    def finish(self, well: bool) -> None:
        """The oldest work ends."""
        if not self.open:
            return
        work = self.open.pop(0)
        interface = self.interface
        if not well and isinstance(work, AskPin) and work.work % 2:
            interface.slots[work.slot].not_typed(work.work, PinEnd.TIMEOUT)
        elif not well:
            interface.slots[work.slot].failed(work.work, Error.ICC_MUTE)
        elif isinstance(work, AskPin):
            request = work.request
            digits = request.maximum if work.work % 2 else max(request.minimum, 1)
            interface.slots[work.slot].typed(work.work, ["1" * digits] * len(request.prompts))
        elif isinstance(work, PowerOn):
            interface.slots[work.slot].powered(work.work, ATR)
        else:
            interface.slots[work.slot].answered(work.work, work.apdu[:200] + b"\x90\x00")

    def change(self, slot: int, present: bool) -> None:
        self.stamp += 1
        shown = self.interface.slots[slot]
        (shown.insert if present else shown.remove)(self.stamp)


def check_response(raw: bytes, descriptor: ClassDescriptor) -> None:
    """CCID rev 1.1, 6.2: what every response has, read here by itself."""
    kind, length, _, _, status, error = struct.unpack_from("<BIBBBB", raw)
    assert 0x80 <= kind <= 0x84
    assert length == len(raw) - 10
    assert len(raw) <= descriptor.max_message
    assert status & 0x3C == 0 and status & 0x03 != 3 and status >> 6 != 3
    assert status >> 6 != 0 or error == 0


def one_input(data: bytes) -> None:
    """A byte says what happens next; a transfer takes its length from another."""
    provider = atheris.FuzzedDataProvider(data)
    descriptor = provider.PickValueInList(list(DESCRIPTORS))
    interface = Interface(descriptor, gempctwin.escape)
    owner = Owner(interface)
    slots = descriptor.max_slot_index + 1
    present = [False] * slots
    while provider.remaining_bytes():
        what, slot = provider.ConsumeIntInRange(0, 9), provider.ConsumeIntInRange(0, slots - 1)
        if what <= 4:
            raw = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 80))
            interface.bulk_out(raw, ends=what != 4)
        elif what == 5:
            present[slot] = not present[slot]
            owner.change(slot, present[slot])
        elif what <= 7:
            owner.finish(what == 6)
        elif what == 8:
            interface.abort(slot, provider.ConsumeIntInRange(0, 255))
        elif provider.ConsumeBool():
            interface.slots[slot].work.extend()
        else:
            interface.reset()
        owner.collect()
        while (response := interface.next_response()) is not None:
            check_response(response, descriptor)
        if interface.outbox.changed:
            assert len(interface.next_notification()) == interface.notification_size


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
