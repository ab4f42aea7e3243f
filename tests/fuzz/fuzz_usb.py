# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over the USB device: any transfers in any order; no answer beyond what was asked for.

python -m tests.fuzz.fuzz_usb -runs=10000000
"""

import sys

import atheris

with atheris.instrument_imports(include=["vccid.usb", "vccid.ccid"]):
    from vccid.ccid.class_descriptor import ClassDescriptor
    from vccid.ccid.interface import Interface
    from vccid.usb.descriptors import Identity, Speed
    from vccid.usb.device import Device
    from vccid.usb.transfers import Status, Transfer

SPEEDS = [Speed.FULL, Speed.HIGH, Speed.SUPER]
SET_CONFIGURATION = bytes.fromhex("0009010000000000")


def one_input(data: bytes) -> None:
    """A byte says what happens next."""
    provider = atheris.FuzzedDataProvider(data)
    function = Interface(ClassDescriptor.for_reader())
    device = Device(Identity("0123", "fuzz"), function, provider.PickValueInList(SPEEDS))
    pending: set[int] = set()
    number = stamp = 0

    def submit(transfer: Transfer) -> None:
        pending.add(transfer.id)
        device.submit(transfer)
        collect()

    def collect() -> None:
        for completion in device.take_completions():
            pending.remove(completion.transfer.id)  # each ends once
            asked = completion.transfer
            assert len(completion.data) <= asked.length and completion.length <= asked.length
            assert not completion.data or (asked.is_in and completion.status is Status.DONE)

    if provider.ConsumeBool():
        submit(Transfer(number, 0, False, 0, b"", SET_CONFIGURATION))
    while provider.remaining_bytes():
        number += 1
        what = provider.ConsumeIntInRange(0, 7)
        if what <= 1:
            setup = provider.ConsumeBytes(8).ljust(8, b"\0")
            is_in = bool(setup[0] & 0x80)
            length = provider.ConsumeIntInRange(0, 300)
            out = b"" if is_in else bytes(length)
            submit(Transfer(number, 0, is_in, length, out, setup))
        elif what <= 3:
            out = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 70))
            submit(Transfer(number, provider.ConsumeIntInRange(0, 15) or 1, False, len(out), out))
        elif what <= 5:
            room = provider.ConsumeIntInRange(0, 600)
            submit(Transfer(number, provider.ConsumeIntInRange(1, 3), True, room))
        elif what == 6:
            victim = provider.ConsumeIntInRange(0, number)
            if device.cancel(victim):
                pending.remove(victim)
        else:
            stamp += 1
            slot = function.slots[0]
            (slot.insert if stamp & 1 else slot.remove)(stamp)
            device.pump()
        function.take_actions()
        collect()
    assert device.pending == len(pending)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
