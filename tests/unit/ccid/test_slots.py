# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several slots of one reader, its reset, and the requests on the control pipe."""

from vccid.ccid.actions import PowerOff
from vccid.ccid.class_descriptor import ClassDescriptor

from .host import XFR, Bench, message, powered, status


def test_slots_work_side_by_side() -> None:
    bench = Bench(ClassDescriptor.for_reader(2))
    for slot in (0, 1):
        bench.insert(slot)
        bench.power_on(slot=slot)
    assert bench.notification() == bytes.fromhex("50" "0F")
    first = bench.transmit(message(0x6F, 0, 1, data=b"a"))
    second = bench.transmit(message(0x6F, 1, 2, data=b"b"))
    bench.interface.slots[1].answered(second.work, b"\x90\x01")
    bench.interface.slots[0].answered(first.work, b"\x90\x00")
    assert [(raw[5], raw[6], raw[10:].hex()) for raw in bench.fetch()] == [
        (1, 2, "9001"),
        (0, 1, "9000"),
    ]


def test_no_more_busy_slots_than_announced() -> None:
    bench = Bench(ClassDescriptor(max_slot_index=1, max_busy_slots=1))
    bench.insert(0)
    bench.power_on(slot=0)
    bench.transmit(message(0x6F, 0, 1, data=b"a"))
    assert status(bench.ask(message(0x65, 1, 2))) == (0x81, 0x42, 0xE0)


def test_reset_forgets_everything_and_tells_of_the_card_again() -> None:
    bench = powered()
    action = bench.transmit(XFR)
    bench.interface.bulk_out(message(0x6F, 0, 1, data=bytes(99))[:64], ends=False)
    bench.interface.reset()
    assert bench.actions() == [PowerOff(0)]
    bench.interface.slots[0].answered(action.work, b"\x90\x00")
    assert bench.fetch() == []
    assert bench.notification() == bytes.fromhex("50" "03")
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x01, 0x00)


def test_the_control_requests() -> None:
    interface = Bench().interface
    assert interface.clock_frequencies() == bytes.fromhex("A00F0000")
    assert interface.data_rates()[:4] == bytes.fromhex("002A0000")
    assert len(interface.data_rates()) == 6 * 4
