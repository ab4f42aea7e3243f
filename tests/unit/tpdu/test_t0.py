# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session as a T=0 host takes it (ISO/IEC 7816-3:2006, 12.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fakes import FakeSession
from vccid.iso7816 import status
from vccid.tpdu.t0 import T0Session, T0Tpdu

GET_RESPONSE = bytes.fromhex("00C00000")


def t0(answer: bytes, left_out: int = 0) -> T0Session:
    return T0Session(FakeSession(b"\x3b\x00", lambda command: answer), left_out=left_out)


def execute(session: T0Session, command: bytes) -> bytes:
    answer = session.execute(command)
    assert isinstance(answer, bytes)
    return answer


@given(
    st.integers(0, 700),
    st.sampled_from(["00B0000000", "00B0000034", "00A4040002A000", "00A4040002A00000", "00B00000"]),
)
def test_the_host_gets_every_byte_and_never_52(length: int, command: str) -> None:
    data = bytes(index & 0xFF for index in range(length))
    session = t0(data + status.SUCCESS, left_out=52)
    got = b""
    answer = execute(session, bytes.fromhex(command))
    while True:
        assert len(answer) - 2 != 52, "QEMU's usb-ccid loses step on xHCI"
        assert len(answer) <= 258
        got += answer[:-2]
        if answer[-2] != 0x61:
            break
        answer = execute(session, GET_RESPONSE + answer[-1:])
    assert answer[-2:] == status.SUCCESS
    assert got == data


def test_a_case_4_command_is_answered_61xx_first() -> None:
    session = t0(b"\x6f\x00" + status.SUCCESS)
    assert execute(session, bytes.fromhex("00A4040002A000")) == status.bytes_available(2)
    assert execute(session, bytes.fromhex("00C0000002")) == bytes.fromhex("6F009000")


def test_52_bytes_may_go_out_as_51_and_1() -> None:
    session = t0(bytes(52) + status.SUCCESS, left_out=52)
    assert execute(session, bytes.fromhex("00B0000034")) == bytes(51) + status.bytes_available(1)
    assert execute(session, bytes.fromhex("00C0000001")) == bytes(1) + status.SUCCESS


def test_another_command_drops_what_waits() -> None:
    answers = iter([bytes(300) + status.SUCCESS, status.SUCCESS, status.INSTRUCTION_NOT_SUPPORTED])

    session = T0Session(FakeSession(b"\x3b\x00", lambda command: next(answers)))
    first, second, third = (
        execute(session, bytes.fromhex(command))
        for command in ("00B0000000", "0020008000", "00C000002C")
    )
    assert first[-2:] == status.bytes_available(44)
    assert second == status.SUCCESS
    # Nothing waits here any more, so the card itself is asked.
    assert third == status.INSTRUCTION_NOT_SUPPORTED


async def test_an_answer_that_waits() -> None:
    async def slow() -> bytes:
        return bytes(300) + status.SUCCESS

    session = T0Session(FakeSession(b"\x3b\x00", lambda command: slow()))
    assert (await session.transmit(bytes.fromhex("00B0000000")))[-2:] == status.bytes_available(44)


@pytest.mark.parametrize("command", ["", "00", "00B0", "00B000000500"])
def test_what_is_no_command_is_for_the_card_to_refuse(command: str) -> None:
    assert execute(t0(status.WRONG_LENGTH), bytes.fromhex(command)) == status.WRONG_LENGTH


def tpdu(*answers: bytes) -> T0Tpdu:
    """A card that answers so, one command after the other, and then no more."""
    left = iter(answers)
    return T0Tpdu(FakeSession(b"\x3b\x00", lambda command: next(left)))


def ask(session: T0Tpdu, command: str) -> bytes:
    answer = session.execute(bytes.fromhex(command))
    assert isinstance(answer, bytes)
    return answer


def test_a_wrong_le_is_answered_6cxx_and_the_command_executed_once() -> None:
    session = tpdu(b"abc" + status.SUCCESS)
    assert ask(session, "00B0000000") == status.wrong_le(3)
    assert ask(session, "00B0000003") == b"abc" + status.SUCCESS


def test_get_response_counts_too() -> None:
    session = tpdu(b"abc" + status.SUCCESS)
    assert ask(session, "00A4040002A000") == status.bytes_available(3)
    assert ask(session, "00C0000000") == status.wrong_le(3)
    assert ask(session, "00C0000003") == b"abc" + status.SUCCESS


def test_what_was_announced_by_6cxx_is_dropped_by_another_command() -> None:
    session = tpdu(b"abc" + status.SUCCESS, status.SUCCESS, b"new" + status.SUCCESS)
    assert ask(session, "00B0000000") == status.wrong_le(3)
    assert ask(session, "0020008000") == status.SUCCESS
    assert ask(session, "00B0000003") == b"new" + status.SUCCESS


def test_a_status_word_alone_needs_no_right_le() -> None:
    assert ask(tpdu(status.tries_left(3)), "0020008000") == status.tries_left(3)


def test_no_le_goes_to_the_card_behind_data() -> None:
    got: list[bytes] = []

    def card(command: bytes) -> bytes:
        got.append(command)
        return b"fci" + status.SUCCESS

    session = T0Tpdu(FakeSession(b"\x3b\x00", card))
    assert ask(session, "00A4040002A00000") == status.bytes_available(3)
    assert got == [bytes.fromhex("00A4040002A000")]


async def test_a_wrong_le_of_a_slow_command() -> None:
    async def slow() -> bytes:
        return b"abc" + status.SUCCESS

    session = T0Tpdu(FakeSession(b"\x3b\x00", lambda command: slow()))
    assert await session.transmit(bytes.fromhex("00B0000010")) == status.wrong_le(3)
    assert await session.transmit(bytes.fromhex("00B0000003")) == b"abc" + status.SUCCESS
