# SPDX-License-Identifier: LGPL-2.1-or-later
"""APDUs longer than a message: exchange levels (CCID rev 1.1, 6.1.4, 6.2.1)."""

import pytest

from vccid.ccid.class_descriptor import ClassDescriptor

from .host import message, powered, status

SMALL = ClassDescriptor.for_reader(max_message=10 + 4)


def test_a_command_and_a_response_in_parts() -> None:
    bench = powered(SMALL)
    more = bytes.fromhex("80" "00000000" "00" "01" "00" "00" "10")
    assert bench.ask(message(0x6F, 0, 1, "000100", b"\x00\xb0\x00\x00")) == more
    assert bench.ask(message(0x6F, 0, 1, "000300", b"\x04abc")) == more
    action = bench.transmit(message(0x6F, 0, 2, "000200", b"d"))
    assert action.apdu == b"\x00\xb0\x00\x00\x04abcd"
    bench.interface.slots[0].answered(action.work, b"123456789\x90\x00")
    assert bench.fetch() == [bytes.fromhex("80" "04000000" "00" "02" "00" "00" "01") + b"1234"]
    assert bench.ask(message(0x6F, 0, 3, "001000")) == (
        bytes.fromhex("80" "04000000" "00" "03" "00" "00" "03") + b"5678"
    )
    assert bench.ask(message(0x6F, 0, 4, "001000")) == (
        bytes.fromhex("80" "03000000" "00" "04" "00" "00" "02") + b"9\x90\x00"
    )
    assert status(bench.ask(message(0x6F, 0, 5, "001000"))) == (0x80, 0x40, 0x08)


@pytest.mark.parametrize(
    ("before", "level", "data", "error"),
    [
        (None, "0200", b"x", 0x08),
        (None, "0300", b"x", 0x08),
        (None, "1000", b"", 0x08),
        (None, "1000", b"x", 0x01),
        (None, "0400", b"x", 0x08),
        (None, "0000", b"", 0x01),
        ("0100", "0000", b"x", 0x08),
        ("0100", "0100", b"x", 0x08),
        ("0100", "0500", b"x", 0x08),
    ],
)
def test_faults_in_a_chain(before: str | None, level: str, data: bytes, error: int) -> None:
    bench = powered(SMALL)
    if before is not None:
        bench.ask(message(0x6F, 0, 1, "00" + before, b"abcd"))
    assert status(bench.ask(message(0x6F, 0, 1, "00" + level, data))) == (0x80, 0x40, error)
    # whatever was open is closed now
    assert status(bench.ask(message(0x6F, 0, 1, "000200", b"x"))) == (0x80, 0x40, 0x08)


def test_what_ends_a_chain() -> None:
    bench = powered(SMALL)
    bench.ask(message(0x6F, 0, 1, "000100", b"abcd"))
    bench.ask(message(0x65, 0, 1))
    assert bench.transmit(message(0x6F, 0, 1, "000200", b"e")).apdu == b"abcde"
    bench = powered(SMALL)
    bench.ask(message(0x6F, 0, 1, "000100", b"abcd"))
    bench.power_on()
    assert status(bench.ask(message(0x6F, 0, 1, "000200", b"x"))) == (0x80, 0x40, 0x08)


def test_the_longest_apdu_and_response() -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 1, data=bytes(65544)))
    assert len(action.apdu) == 65544
    bench.interface.slots[0].answered(action.work, bytes(65538))
    (answer,) = bench.fetch()
    assert len(answer) == 10 + 65538
    bench.ask(message(0x6F, 0, 1, "000100", bytes(65544)))
    assert status(bench.ask(message(0x6F, 0, 1, "000200", b"x"))) == (0x80, 0x40, 0x01)


def test_short_apdu_level() -> None:
    bench = powered(ClassDescriptor.for_reader(extended=False))
    assert status(bench.ask(message(0x6F, 0, 1, "000100", b"x"))) == (0x80, 0x40, 0x08)
    assert status(bench.ask(message(0x6F, 0, 1))) == (0x80, 0x40, 0x01)
    assert status(bench.ask(message(0x6F, 0, 1, data=bytes(262)))) == (0x80, 0x40, 0x01)
    action = bench.transmit(message(0x6F, 0, 1, data=bytes(261)))
    bench.interface.slots[0].answered(action.work, bytes(259))
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x40, 0xFC)]
