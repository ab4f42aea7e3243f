# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages and the bulk transfers that carry them: in pieces, of a wrong length, unanswered."""

import pytest

from vccid.ccid.actions import Transmit
from vccid.ccid.class_descriptor import ClassDescriptor

from .host import Bench, message, powered, status


def test_a_message_in_pieces() -> None:
    bench = powered()
    raw = message(0x6F, 0, 1, data=bytes(300))
    for at in range(0, 256, 64):
        assert bench.interface.bulk_out(raw[at : at + 64], ends=False)
    assert bench.actions() == []
    assert len(bench.transmit(raw[256:]).apdu) == 300


def test_a_full_last_packet_needs_no_empty_one_and_bears_it() -> None:
    bench = powered()
    assert bench.interface.bulk_out(message(0x6F, 0, 1, data=bytes(54)), ends=False)
    action = bench.actions()[-1]
    assert isinstance(action, Transmit)
    assert bench.interface.bulk_out(b"", ends=True)
    bench.interface.slots[0].answered(action.work, b"\x90\x00")
    assert len(bench.fetch()) == 1


@pytest.mark.parametrize(
    "raw",
    [
        message(0x65, 0, 1) + b"x",  # more than dwLength
        message(0x6F, 0, 1, data=bytes(9))[:-1],  # less
        b"\x6f\xff\xff\xff\xff\0\1\0\0\0",  # 4 GiB
    ],
)
def test_a_wrong_length_is_answered(raw: bytes) -> None:
    bench = Bench()
    assert status(bench.ask(raw))[2] == 0x01
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x02, 0x00)


def test_an_overlong_message_is_swallowed_to_its_end() -> None:
    bench = Bench(ClassDescriptor.for_reader(max_message=271))
    raw = message(0x6F, 0, 1, data=bytes(300))
    for at in range(0, 256, 64):
        assert bench.interface.bulk_out(raw[at : at + 64], ends=False)
    assert bench.interface.bulk_out(raw[256:], ends=True)
    assert [status(answer)[2] for answer in bench.fetch()] == [0x01]
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x02, 0x00)


#: A header that tells of 4 GiB, in a transfer of one full packet.
ENDLESS = bytes.fromhex("6F" "FFFFFFFF" "00" "01" "000000") + bytes(54)  # fmt: skip


@pytest.mark.parametrize("length", [0, 54, 300])
def test_a_command_behind_a_message_without_end_is_not_lost(length: int) -> None:
    bench = powered()
    assert bench.interface.bulk_out(ENDLESS, ends=False)
    assert [status(answer)[2] for answer in bench.fetch()] == [0x01]
    raw = message(0x6F, 0, 2, data=bytes(length)) if length else message(0x65, 0, 2)
    for at in range(0, len(raw), 64):
        part = raw[at : at + 64]
        assert bench.interface.bulk_out(part, ends=len(part) < 64)
    if length:
        (action,) = bench.actions()
        assert isinstance(action, Transmit)
        assert action.apdu == bytes(length)
    else:
        assert [answer[6] for answer in bench.fetch()] == [2]


@pytest.mark.parametrize(
    "rest",
    [
        [bytes(64), b""],
        [bytes(64), bytes(10)],
        [ENDLESS, b"x"],
        [message(0x6F, 1, 2, data=bytes(54)), b"x"],  # no such slot
        [message(0x60, 0, 2, data=bytes(54)), b"x"],  # no such command
        [message(0x6F, 0, 2, data=bytes(53)) + b"x", b"x"],
    ],
)
def test_what_is_no_command_belongs_to_the_message_without_end(rest: list[bytes]) -> None:
    bench = powered()
    for part in (ENDLESS, *rest):
        assert bench.interface.bulk_out(part, ends=len(part) < 64)
    assert len(bench.fetch()) == 1
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x00, 0x00)


def test_the_middle_of_an_overlong_message_is_no_command() -> None:
    bench = powered(ClassDescriptor.for_reader(max_message=271))
    inner = message(0x6F, 0, 2, data=bytes(54))
    raw = message(0x6F, 0, 1, data=bytes(54) + 4 * inner)
    for at in range(0, len(raw), 64):
        assert bench.interface.bulk_out(raw[at : at + 64], ends=False)
    assert bench.actions() == []
    assert [answer[6] for answer in bench.fetch()] == [1]
    assert bench.interface.bulk_out(inner, ends=False)
    assert len(bench.actions()) == 1


def test_an_overlong_message_that_breaks_off_swallows_no_command() -> None:
    bench = Bench(ClassDescriptor.for_reader(max_message=271))
    assert bench.interface.bulk_out(message(0x6F, 0, 1, data=bytes(300))[:64], ends=False)
    assert len(bench.fetch()) == 1
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x02, 0x00)


def test_less_than_a_header_halts_the_pipe() -> None:
    bench = Bench()
    assert not bench.interface.bulk_out(b"\x65\0\0", ends=True)
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x02, 0x00)


def test_the_command_pipe_waits_while_nobody_fetches() -> None:
    bench = Bench()
    for seq in range(32):
        assert bench.interface.accepts
        bench.send(message(0x65, 0, seq))
    assert not bench.interface.accepts
    bench.interface.next_response()
    assert bench.interface.accepts
