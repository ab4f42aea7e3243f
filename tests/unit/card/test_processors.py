# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each processor alone, with a stub behind it, and the two rows they make."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from vccid.card.class_byte import AS_LIBCACARD, BY_STANDARD, ClassKind
from vccid.card.command_chaining import CommandChaining
from vccid.card.line_ups import as_libcacard, by_standard
from vccid.card.processors import (
    Answer,
    ClassByte,
    LibcacardProprietaryClass,
    LibcacardReservedClass,
    Process,
    Refusal,
    Unfinished,
)
from vccid.card.response_chaining import LibcacardResponseChaining, ResponseChaining
from vccid.iso7816 import status
from vccid.iso7816.apdu import Command


class Application:
    """Stands behind a processor: keeps what comes, answers as it is told.

    Attributes:
        asked: the commands that came.
        answer: what the next one is answered.
    """

    def __init__(self, answer: bytes = status.SUCCESS) -> None:
        self.asked: list[Command] = []
        self.answer: Answer = answer

    def process(self, command: Command) -> Answer:
        self.asked.append(command)
        return self.answer


def command(header: str, data: bytes = b"", le: int = 0) -> Command:
    return Command(*bytes.fromhex(header), data, le)


@pytest.fixture
def behind() -> Application:
    return Application()


@pytest.fixture
def unfinished() -> Unfinished:
    left = Unfinished()
    left.response = b"left" + status.SUCCESS
    return left


# Class byte


@pytest.mark.parametrize(
    ("classes", "standard", "libcacard"),
    [
        ("00 10", ClassKind.INTERINDUSTRY, ClassKind.INTERINDUSTRY),
        ("01 02 03 11 13", ClassKind.CHANNEL, ClassKind.CHANNEL),
        ("04 08 0C 14 1C", ClassKind.SECURE, ClassKind.SECURE),
        ("0D", ClassKind.CHANNEL, ClassKind.SECURE),
        ("20 2F 30 3F FF", ClassKind.RESERVED, ClassKind.RESERVED),
        ("40 5F", ClassKind.CHANNEL, ClassKind.CHANNEL),
        ("60 7F", ClassKind.CHANNEL, ClassKind.SECURE),
        ("80 90 A0", ClassKind.PROPRIETARY, ClassKind.INTERINDUSTRY),
        ("81 92 A3", ClassKind.PROPRIETARY, ClassKind.CHANNEL),
        ("84 9C", ClassKind.PROPRIETARY, ClassKind.SECURE),
        ("B0 BF C5", ClassKind.PROPRIETARY, ClassKind.PROPRIETARY),
        ("D0 E1 FE", ClassKind.PROPRIETARY, ClassKind.RESERVED),
    ],
)
def test_kinds_of_classes(classes: str, standard: ClassKind, libcacard: ClassKind) -> None:
    for cla in bytes.fromhex(classes):
        assert (BY_STANDARD[cla], AS_LIBCACARD[cla]) == (standard, libcacard), f"{cla:02X}"


def test_class_byte_leads_where_it_says() -> None:
    ends = {kind: Application(bytes((0x62, kind))) for kind in ClassKind}
    process = ClassByte(BY_STANDARD, {kind: end.process for kind, end in ends.items()}).process
    for cla in range(256):
        assert process(Command(cla, 0xA4, 0, 0, b"", 0)) == bytes((0x62, BY_STANDARD[cla]))


def test_refusal_leaves_no_trace(unfinished: Unfinished) -> None:
    unfinished.chain = command("10 87 07 9A", b"part")
    process = Refusal(status.CHANNEL_NOT_SUPPORTED, unfinished).process
    assert process(command("01 C0 00 00", le=256)) == status.CHANNEL_NOT_SUPPORTED
    assert (unfinished.chain, unfinished.response) == (None, b"")


def test_a_proprietary_class_of_libcacard_is_plain(behind: Application) -> None:
    LibcacardProprietaryClass(behind.process).process(command("BF 52 00 00", b"\x01\x02"))
    assert behind.asked == [command("00 52 00 00", b"\x01\x02")]


def test_a_reserved_class_of_libcacard(behind: Application, unfinished: Unfinished) -> None:
    """The applet answers what is its own; GET RESPONSE is refused, and what waits still waits."""
    process = LibcacardReservedClass(
        lambda command: command.ins == 0x52, behind.process, unfinished
    ).process
    unfinished.chain = command("10 52 00 00")
    assert process(command("D0 C0 00 00")) == status.COMMAND_NOT_ALLOWED
    assert unfinished.response and unfinished.chain is None
    assert process(command("D0 52 00 00")) == status.SUCCESS
    assert process(command("D0 A4 04 00")) == status.COMMAND_NOT_ALLOWED
    assert not unfinished.response
    assert [asked.ins for asked in behind.asked] == [0x52]


# Command chaining


def test_parts_become_one_command(behind: Application, unfinished: Unfinished) -> None:
    process = CommandChaining(behind.process, unfinished).process
    assert process(command("10 87 07 9A", b"one ")) == status.SUCCESS
    assert process(command("10 87 07 9A", b"two ", 256)) == status.SUCCESS
    assert not behind.asked and not unfinished.response
    behind.answer = b"told" + status.SUCCESS
    assert process(command("00 87 07 9A", b"three", 256)) == behind.answer
    assert behind.asked == [command("00 87 07 9A", b"one two three", 256)]
    assert unfinished.chain is None


@pytest.mark.parametrize(
    "other", ["00 88 07 9A", "00 87 11 9A", "00 87 07 9C", "0C 87 07 9A", "00 A4 04 00"]
)
def test_another_command_ends_a_chain(
    behind: Application, unfinished: Unfinished, other: str
) -> None:
    process = CommandChaining(behind.process, unfinished).process
    process(command("10 87 07 9A", b"part"))
    assert process(command(other, b"else")) == status.SUCCESS
    assert process(command("00 87 07 9A", b"alone")) == status.SUCCESS
    assert behind.asked == [command(other, b"else"), command("00 87 07 9A", b"alone")]


def test_another_chain_ends_a_chain(behind: Application, unfinished: Unfinished) -> None:
    process = CommandChaining(behind.process, unfinished).process
    process(command("10 87 07 9A", b"first"))
    process(command("10 DB 3F FF", b"second, "))
    process(command("00 DB 3F FF", b"whole"))
    assert behind.asked == [command("00 DB 3F FF", b"second, whole")]


def test_secured_parts_make_a_secured_command(behind: Application, unfinished: Unfinished) -> None:
    process = CommandChaining(behind.process, unfinished).process
    process(command("1C 87 27 04", b"a"))
    process(command("0C 87 27 04", b"b"))
    assert behind.asked == [command("0C 87 27 04", b"ab")]


def test_a_chain_has_an_end(behind: Application, unfinished: Unfinished) -> None:
    process = CommandChaining(behind.process, unfinished).process
    assert process(command("10 DB 3F FF", bytes(65_535))) == status.SUCCESS
    assert process(command("10 DB 3F FF", b"x")) == status.WRONG_LENGTH
    assert unfinished.chain is None
    assert process(command("00 DB 3F FF", b"x")) == status.SUCCESS
    assert behind.asked == [command("00 DB 3F FF", b"x")]


def test_get_response_is_not_chained(behind: Application, unfinished: Unfinished) -> None:
    process = CommandChaining(behind.process, unfinished).process
    assert process(command("10 C0 00 00", le=256)) == status.COMMAND_NOT_ALLOWED
    assert unfinished.response and not behind.asked


def test_only_some_instructions_are_chained(behind: Application, unfinished: Unfinished) -> None:
    process = CommandChaining(behind.process, unfinished, only=(0x87,)).process
    assert process(command("10 CB 3F FF", b"\x5c")) == status.CHAINING_NOT_SUPPORTED
    assert process(command("00 CB 3F FF", b"\x01\x7e")) == status.SUCCESS
    assert behind.asked == [command("00 CB 3F FF", b"\x01\x7e")]
    assert process(command("10 87 07 9A", b"part")) == status.SUCCESS


# Response chaining


def fetch(process: Process, answer: Answer, le: int = 256) -> bytes:
    """All of an answer, each part as long as the last said."""
    assert isinstance(answer, bytes)
    data = answer[:-2]
    while answer[-2] == 0x61:
        answer = process(command("00 C0 00 00", le=le or answer[-1] or 256))
        assert isinstance(answer, bytes)
        data += answer[:-2]
    return data + answer[-2:]


@pytest.mark.parametrize(
    ("size", "le", "first", "announced"),
    [
        (0, 0, 0, None),
        (19, 0, 19, None),
        (256, 0, 256, None),
        (256, 256, 256, None),
        (264, 256, 256, 8),
        (264, 0, 256, 8),
        (20, 8, 8, 12),
        (700, 256, 256, 0),
        (700, 65_536, 700, None),
    ],
)
def test_as_much_as_le_and_the_rest(
    behind: Application, size: int, le: int, first: int, announced: int | None
) -> None:
    process = ResponseChaining(behind.process, Unfinished()).process
    behind.answer = bytes(range(256)) * 3
    behind.answer = behind.answer[:size] + status.SUCCESS
    answer = process(command("00 CB 3F FF", le=le))
    assert isinstance(answer, bytes) and len(answer) == first + 2
    assert answer[-2:] == (status.SUCCESS if announced is None else bytes((0x61, announced)))
    assert fetch(process, answer) == behind.answer


@pytest.mark.parametrize("le", [1, 7, 256])
def test_the_status_word_comes_last(behind: Application, le: int) -> None:
    process = ResponseChaining(behind.process, Unfinished()).process
    behind.answer = bytes(300) + b"\x62\x82"
    assert fetch(process, process(command("00 CB 3F FF", le=le)), le) == behind.answer


def test_another_command_drops_what_waits(behind: Application) -> None:
    process = ResponseChaining(behind.process, Unfinished()).process
    behind.answer = bytes(300) + status.SUCCESS
    process(command("00 CB 3F FF", le=256))
    behind.answer = status.NOT_FOUND
    assert process(command("00 A4 04 00")) == status.NOT_FOUND
    assert process(command("00 C0 00 00", le=44)) == status.CONDITIONS_NOT_SATISFIED


async def test_an_answer_that_comes_later_is_cut_as_well(behind: Application) -> None:
    process = ResponseChaining(behind.process, Unfinished()).process
    whole = bytes(264) + status.SUCCESS
    waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    behind.answer = waiting
    answer = process(command("00 87 07 9A", le=256))
    assert isinstance(answer, Awaitable)
    waiting.set_result(whole)
    assert fetch(process, await answer) == whole


def test_libcacard_lets_the_whole_wait(behind: Application, unfinished: Unfinished) -> None:
    process = LibcacardResponseChaining(behind.process, unfinished, untouched=(0x36,)).process
    behind.answer = b"\x6f\x0b" + status.SUCCESS
    assert process(command("00 A4 04 00", le=256)) == behind.answer
    assert process(command("00 A4 04 00")) == b"\x61\x02"
    assert process(command("00 C0 00 00", le=1)) == b"\x6f\x61\x01"
    assert process(command("00 C0 00 00")) == b"\x0b" + status.SUCCESS
    assert process(command("00 C0 00 00")) == status.REFERENCED_DATA_NOT_FOUND
    behind.answer = bytes(256) + b"\x63\xff"
    assert process(command("00 36 00 00")) == behind.answer


# The rows


def unwrapping(following: Process) -> Process:
    """A secure messaging that turns bits over."""

    def process(command: Command) -> Answer:
        if not command.cla & 0x0C:
            return following(command)
        plain = bytes(byte ^ 0xFF for byte in command.data)
        answer = following(command._replace(cla=0x00, data=plain))
        assert isinstance(answer, bytes)
        return bytes(byte ^ 0xFF for byte in answer[:-2]) + status.SUCCESS

    return process


def test_secure_messaging_has_its_place(behind: Application) -> None:
    """Behind the chain's parts, before the application; what it wraps is cut, not what it got."""
    process = by_standard(behind.process, secure_messaging=unwrapping)
    behind.answer = bytes(264) + status.NOT_FOUND
    assert process(command("1C 87 27 04", b"\xfe")) == status.SUCCESS
    answer = process(command("0C 87 27 04", b"\xfd", 256))
    assert behind.asked == [command("00 87 27 04", b"\x01\x02", 256)]
    assert fetch(process, answer) == b"\xff" * 264 + status.SUCCESS
    behind.answer = status.SUCCESS
    assert process(command("00 A4 04 00", b"name", 256)) == status.SUCCESS
    assert behind.asked[-1].data == b"name"


REFUSED: list[tuple[str, bytes]] = [
    ("01 CB 3F FF", status.CHANNEL_NOT_SUPPORTED),
    ("43 CB 3F FF", status.CHANNEL_NOT_SUPPORTED),
    ("0C CB 3F FF", status.SECURE_MESSAGING_NOT_SUPPORTED),
    ("80 CB 3F FF", status.CLASS_NOT_SUPPORTED),
    ("20 CB 3F FF", status.CLASS_NOT_SUPPORTED),
    ("FF CB 3F FF", status.CLASS_NOT_SUPPORTED),
]


@pytest.mark.parametrize(("header", "answer"), REFUSED)
def test_refused_by_the_standard(behind: Application, header: str, answer: bytes) -> None:
    process = by_standard(behind.process)
    assert process(command(header, le=256)) == answer
    assert not behind.asked
    process(command("10 CB 3F FF", b"part"))
    assert process(command(header)) == answer
    process(command("00 CB 3F FF", b"alone"))
    assert behind.asked == [command("00 CB 3F FF", b"alone")]


@pytest.mark.parametrize(
    "row",
    [by_standard, lambda end: as_libcacard(end, owns=lambda command: True)],
    ids=["by the standard", "as libcacard"],
)
def test_a_row_passes_a_plain_command_as_it_is(
    behind: Application, row: Callable[[Process], Process]
) -> None:
    behind.answer = b"told" + status.SUCCESS
    asked = command("00 CA 9F 7F", b"data", 256)
    assert row(behind.process)(asked) == behind.answer
    assert behind.asked == [asked]
