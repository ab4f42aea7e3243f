# SPDX-License-Identifier: LGPL-2.1-or-later
"""A slot with a PIN pad (CCID rev 1.1, 6.1.11)."""

import pytest

from vccid.ccid.actions import AskPin, Cancel, PowerOff, Transmit
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.pin_entry import PinEnd

from .host import XFR, Bench, message, powered, status
from .test_pin_entry import MODIFY, VERIFY

PIN_PAD = ClassDescriptor.for_reader(pin_pad=True)


def ask_pin(bench: Bench, data: bytes) -> AskPin:
    bench.send(message(0x69, 0, 5, data=data))
    action = bench.actions()[-1]
    assert isinstance(action, AskPin)
    return action


def test_a_pin_that_is_typed_goes_to_the_card() -> None:
    bench = powered(PIN_PAD)
    asked = ask_pin(bench, VERIFY)
    bench.interface.slots[0].work.extend()
    assert [raw[7] for raw in bench.fetch()] == [0x80]
    bench.interface.slots[0].typed(asked.work, ["123456"])
    (sent,) = bench.actions()
    assert isinstance(sent, Transmit)
    assert sent.apdu == bytes.fromhex("00200000" "08" "313233343536FFFF")
    bench.interface.slots[0].answered(sent.work, b"\x90\x00")
    assert bench.fetch() == [bytes.fromhex("80" "02000000" "00" "05" "00" "00" "00" "9000")]


def test_a_pin_that_is_typed_starts_the_clock() -> None:
    bench = powered(ClassDescriptor.for_reader(pin_pad=True, clock_stop=True))
    bench.ask(message(0x61, 0, 1, data=bytes.fromhex("1100000A01")))
    assert bench.ask(message(0x6E, 0, 1, "010000"))[9] == 1
    bench.interface.slots[0].typed(ask_pin(bench, VERIFY).work, ["123456"])
    (sent,) = bench.actions()
    assert isinstance(sent, Transmit)
    bench.interface.slots[0].answered(sent.work, b"\x90\x00")
    bench.fetch()
    assert bench.ask(message(0x65, 0, 2))[9] == 0


@pytest.mark.parametrize(("end", "error"), [(PinEnd.CANCELLED, 0xEF), (PinEnd.TIMEOUT, 0xF0)])
def test_a_pin_that_is_not_typed(end: PinEnd, error: int) -> None:
    bench = powered(PIN_PAD)
    bench.interface.slots[0].not_typed(ask_pin(bench, VERIFY).work, end)
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x40, error)]
    bench.transmit(XFR)


def test_a_pad_that_fails_leaves_no_host_waiting() -> None:
    bench = powered(PIN_PAD)
    bench.interface.slots[0].failed(ask_pin(bench, VERIFY).work, 0xFB)
    assert bench.actions() == [PowerOff(0)]
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x41, 0xFB)]


def test_a_confirmation_that_differs_never_reaches_the_card() -> None:
    bench = powered(PIN_PAD)
    asked = ask_pin(bench, MODIFY)
    bench.interface.slots[0].typed(asked.work, ["123456", "1111", "1112"])
    assert bench.actions() == []
    assert [raw[10:] for raw in bench.fetch()] == [b"\x64\x02"]


@pytest.mark.parametrize("way", ["abort", "remove", "reset"])
def test_an_entry_that_nobody_waits_for_any_more(way: str) -> None:
    bench = powered(PIN_PAD)
    asked = ask_pin(bench, VERIFY)
    if way == "abort":
        bench.interface.abort(0, 9)
    elif way == "remove":
        bench.remove()
    else:
        bench.interface.reset()
    bench.fetch()
    assert Cancel(0, asked.work) in bench.actions()
    bench.interface.slots[0].typed(asked.work, ["123456"])
    assert bench.actions() == []


def test_secure_refuses_what_it_cannot() -> None:
    bench = powered(PIN_PAD)
    assert status(bench.ask(message(0x69, 0, 1, "000100", VERIFY))) == (0x80, 0x40, 0x08)
    assert status(bench.ask(message(0x69, 0, 1, data=b"\x04"))) == (0x80, 0x40, 0x00)
    assert status(bench.ask(message(0x69, 0, 1, data=b"\x07"))) == (0x80, 0x40, 0x0A)
    assert status(bench.ask(message(0x69, 0, 1))) == (0x80, 0x40, 0x01)
