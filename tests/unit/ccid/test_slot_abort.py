# SPDX-License-Identifier: LGPL-2.1-or-later
"""Abort, whose two halves come in either order (CCID rev 1.1, 5.3.1, 6.1.13)."""

import pytest

from vccid.ccid.actions import Cancel, PowerOff, PowerOn

from .host import SELECT, XFR, Bench, message, powered, status

ABORTED = bytes.fromhex("81" "00000000" "00" "09" "00" "00" "00")


@pytest.mark.parametrize("control_first", [True, False])
def test_abort_waits_for_both_halves_and_for_the_card(control_first: bool) -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    bench.interface.slots[0].work.extend()
    if control_first:
        assert bench.interface.abort(0, 9)
        assert status(bench.ask(message(0x65, 0, 6))) == (0x81, 0x40, 0xFF)
        bench.send(message(0x72, 0, 9))
    else:
        bench.send(message(0x72, 0, 9))
        assert status(bench.ask(message(0x65, 0, 6))) == (0x81, 0x40, 0xFF)
        assert bench.interface.abort(0, 9)
    assert bench.fetch() == []
    bench.interface.slots[0].answered(action.work, b"\x90\x00")
    assert bench.fetch() == [ABORTED]
    bench.transmit(message(0x6F, 0, 10, data=SELECT))


def test_abort_drops_a_response_that_was_not_fetched() -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    bench.interface.slots[0].answered(action.work, b"\x90\x00")
    bench.interface.abort(0, 9)
    bench.send(message(0x72, 0, 9))
    assert bench.fetch() == [ABORTED]


def test_abort_with_another_sequence_number() -> None:
    bench = powered()
    bench.interface.abort(0, 9)
    assert status(bench.ask(message(0x72, 0, 8))) == (0x81, 0x40, 0xFF)
    bench.interface.abort(0, 10)
    assert bench.ask(message(0x72, 0, 10))[6:9] == bytes.fromhex("0A" "00" "00")
    bench.send(message(0x72, 0, 11))
    bench.send(message(0x72, 0, 12))
    assert [raw[6:9] for raw in bench.fetch()] == [bytes.fromhex("0B" "40" "FF")]
    bench.interface.abort(0, 13)
    assert [raw[6:9] for raw in bench.fetch()] == [bytes.fromhex("0C" "40" "FF")]
    assert bench.ask(message(0x72, 0, 13))[6:9] == bytes.fromhex("0D" "00" "00")


def test_abort_of_power_on_and_of_a_missing_slot() -> None:
    bench = Bench()
    bench.insert()
    bench.send(message(0x62, 0, 1))
    work = bench.work(PowerOn)
    bench.interface.abort(0, 9)
    assert bench.actions() == [Cancel(0, work), PowerOff(0)]
    assert bench.ask(message(0x72, 0, 9))[6:9] == bytes.fromhex("09" "01" "00")
    assert not bench.interface.abort(1, 9)


def test_removal_in_the_middle_of_an_abort() -> None:
    bench = powered()
    bench.transmit(XFR)
    bench.interface.abort(0, 9)
    bench.send(message(0x72, 0, 9))
    bench.remove()
    assert [raw[6:9] for raw in bench.fetch()] == [bytes.fromhex("09" "02" "00")]
