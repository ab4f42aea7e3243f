# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames of a GemPC Twin's serial line, one field a line (libccid: src/ccid_serial.c)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.wire import gempctwin
from vccid.wire.gempctwin import Receiver

STATUS = bytes.fromhex(
    "65"  # PC_to_RDR_GetSlotStatus
    "00000000"  # dwLength
    "00"  # bSlot
    "2A"  # bSeq
    "000000"
)
FRAMED = bytes.fromhex(
    "03"  # SYNC
    "06"  # ACK
    "65000000" "00002A000000"  # the message
    "4A"  # LRC
)  # fmt: skip
LONGEST = b"\x6f" + (261).to_bytes(4, "little") + bytes(5) + bytes(261)


def test_a_message_is_framed() -> None:
    assert gempctwin.frame(STATUS) == FRAMED
    assert Receiver().feed(FRAMED) == [STATUS]


def test_a_command_comes_back_but_an_escape_without_its_data() -> None:
    assert gempctwin.echo(STATUS) == FRAMED
    escape = bytes.fromhex("6B" "02000000" "00" "07" "000000" "B2A0")  # fmt: skip
    assert gempctwin.echo(escape) == bytes.fromhex(
        "03" "06"
        "6B" "00000000" "00" "07" "000000"
        "69"
    )  # fmt: skip


@pytest.mark.parametrize(("multiplier", "byte"), [(1, "81"), (127, "FF"), (255, "FF")])
def test_time_is_asked_for_with_a_byte_from_80_on(multiplier: int, byte: str) -> None:
    assert gempctwin.time_request(multiplier) == bytes.fromhex(byte)


def test_one_byte_at_a_time() -> None:
    receiver = Receiver()
    received = []
    for byte in FRAMED + FRAMED:
        received += receiver.feed(bytes((byte,)))
    assert received == [STATUS, STATUS]
    assert not receiver.is_waiting


def test_the_longest_message() -> None:
    assert Receiver().feed(gempctwin.frame(LONGEST)) == [LONGEST]


@pytest.mark.parametrize(
    "garbage",
    [
        "00" "ff" "0a",  # noise
        "03",  # SYNC, and then another
        "03" "15",  # what only a reader says
        "03" "03" "03",
    ],
)  # fmt: skip
def test_what_is_no_frame_is_passed_over_in_silence(garbage: str) -> None:
    assert Receiver().feed(bytes.fromhex(garbage) + FRAMED) == [STATUS]


def test_a_damaged_frame_is_passed_over_too() -> None:
    wrong = bytearray(FRAMED)
    wrong[-2] ^= 1
    assert Receiver().feed(bytes(wrong) * 3 + FRAMED) == [STATUS]


def test_a_message_longer_than_any_is_not_waited_for() -> None:
    receiver = Receiver()
    begun = bytes.fromhex(
        "03" "06"
        "6F"  # PC_to_RDR_XfrBlock
        "06010000"  # dwLength: 262
    )  # fmt: skip
    assert receiver.feed(begun) == []
    assert not receiver.is_waiting


@pytest.mark.parametrize("begun", range(1, 13))
def test_a_frame_that_was_begun_does_not_eat_the_next(begun: int) -> None:
    receiver = Receiver()
    power_on = gempctwin.frame(bytes.fromhex("62" "00000000" "00" "29" "010000"))
    assert receiver.feed(power_on[:begun] + FRAMED) + receiver.silence() == [STATUS]
    assert not receiver.is_waiting


def test_a_frame_that_promises_much_does_not_eat_the_next() -> None:
    receiver = Receiver()
    assert receiver.feed(gempctwin.frame(LONGEST)[:20] + FRAMED) == []
    assert receiver.is_waiting
    assert receiver.silence() == [STATUS]


def test_a_reset_forgets() -> None:
    receiver = Receiver()
    assert receiver.feed(FRAMED[:9]) == []
    receiver.reset()
    assert not receiver.is_waiting
    assert receiver.feed(FRAMED[9:]) == []


@given(st.binary(max_size=400), st.integers(0, 400))
def test_it_does_not_matter_how_the_stream_is_cut(stream: bytes, cut: int) -> None:
    whole, parts = Receiver(), Receiver()
    assert whole.feed(stream) == parts.feed(stream[:cut]) + parts.feed(stream[cut:])


@given(st.binary(max_size=261), st.binary(max_size=20).filter(lambda raw: 3 not in raw))
def test_every_message_comes_through_behind_noise(data: bytes, noise: bytes) -> None:
    message = b"\x6f" + len(data).to_bytes(4, "little") + bytes(5) + data
    assert Receiver().feed(noise + gempctwin.frame(message)) == [message]
