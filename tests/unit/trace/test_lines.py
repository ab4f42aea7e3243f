# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands and status words by their names, and no secret in them, however it is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.iso7816 import status
from vccid.trace.global_platform import GLOBAL_PLATFORM
from vccid.trace.gsc_is import GSC_IS
from vccid.trace.interindustry import INTERINDUSTRY
from vccid.trace.lines import (
    APPLICATIONS,
    application_of,
    command_text,
    exchange_text,
    instruction,
    status_text,
)
from vccid.trace.piv import PIV
from vccid.trace.words import Application

CAC = "A0 00 00 00 79"


@pytest.mark.parametrize(
    ("application", "command", "text"),
    [
        (None, "00 20 00 00 08 31 32 33 34 35 36 37 38", "VERIFY"),
        (None, "00 20 00 00", "VERIFY"),
        (PIV, "00 20 00 80", "VERIFY application PIN"),
        (PIV, "00 20 FF 80", "VERIFY log out, application PIN"),
        (PIV, "0C 20 00 98 02 01 02", "VERIFY pairing code, secured"),
        (PIV, "00 24 00 81 02 01 02", "CHANGE REFERENCE DATA PUK"),
        (PIV, "00 CB 3F FF 05 5C 03 5F C1 02 00", "GET DATA CHUID"),
        (PIV, "00 CB 3F FF 03 5C 01 7E 00", "GET DATA discovery object"),
        (PIV, "00 CB 3F FF 05 5C 03 5F C1 20 00", "GET DATA retired certificate 20"),
        (PIV, "00 CB 3F FF 02 5C 00", "GET DATA tag list 5C00"),
        (
            PIV,
            "10 87 07 9A 04 7C 02 81 00",
            "GENERAL AUTHENTICATE RSA 2048, PIV authentication key, 4 bytes, to be continued",
        ),
        (PIV, "00 DB 3F FF 02 53 00", "PUT DATA"),
        (PIV, "00 FE 07 9A 02 01 02", "IMPORT KEY RSA 2048, PIV authentication key"),
        (None, f"00 A4 04 00 07 {CAC} 01 00 00", "SELECT by name, A0000000790100"),
        (None, "00 A4 04 00 11" + "A0" * 17, "SELECT by name, 17 bytes"),
        (GSC_IS, "00 A4 02 00 02 01 00", "SELECT object, 0100"),
        (None, "00 A4 02 00 02 01 00", "SELECT EF under the current DF, 0100"),
        (GSC_IS, "00 52 01 02 02 02 F0", "READ BUFFER offset 0102, buffer V, count F0"),
        (GSC_IS, "80 52 00 00 03 09 01 01", "READ BUFFER offset 0000, buffer 09, count 01, 1 byte"),
        (GSC_IS, "80 42 80 00 02 01 02", "SIGN/DECRYPT more blocks, 2 bytes"),
        (None, "00 CA 9F 7F 2D", "GET DATA tag 9F7F"),
        (None, "00 AA 01 02 01 FF", "instruction AA with 01 02, 1 byte"),
        (None, "02 AA 01 02 01 FF", "instruction AA"),
        (None, "00 20 00 00 09 31", "a malformed VERIFY"),
        (None, "00 A4", "a malformed SELECT"),
        (None, "00", "a malformed command"),
        (None, "", "a malformed command"),
        (None, "31 32 33 34", "a command of a reserved class"),
        (None, "FF 82 00 00 02 01 02", "a command of a reserved class"),
    ],
)
def test_commands(application: Application | None, command: str, text: str) -> None:
    assert command_text(bytes.fromhex(command), application) == text


@pytest.mark.parametrize(
    ("application", "ins", "answer", "text"),
    [
        (None, 0x20, "90 00", "9000"),
        (None, 0x20, "63 C1", "63C1 (1 try left)"),
        (None, 0x20, "63 C0", "63C0 (0 tries left)"),
        (None, 0x36, "63 C0", "63C0 (192 more bytes)"),
        (None, 0x20, "63 00", "6300 (verification failed)"),
        (None, 0xA4, "61 0D", "610D (13 bytes more)"),
        (None, 0xCB, "AA 61 00", "1 byte and 6100 (256 bytes or more)"),
        (None, 0x56, "6C 1D", "6C1D (wrong Le, 29 would be right)"),
        (None, 0xB0, "01 02 90 00", "2 bytes and 9000"),
        (None, 0xCB, "6A 82", "6A82 (file or application not found)"),
        (PIV, 0xCB, "6A 82", "6A82 (data object or application not found)"),
        (GLOBAL_PLATFORM, 0xF2, "63 10", "6310 (more data available)"),
        (GLOBAL_PLATFORM, 0xD8, "94 85", "9485 (invalid key check value)"),
        (None, 0xD8, "94 85", "9485"),
        (None, 0x00, "90", "a malformed answer"),
        (None, 0x00, "", "no answer"),
    ],
)
def test_status_words(application: Application | None, ins: int, answer: str, text: str) -> None:
    assert status_text(bytes.fromhex(answer), ins, application) == text


def test_an_exchange_and_what_was_expected() -> None:
    verify = bytes.fromhex("00 20 00 00 04 31 32 33 34")
    told = exchange_text(verify, status.tries_left(2), status.SUCCESS)
    assert told == "VERIFY → 63C2 (2 tries left), expected 9000"
    assert exchange_text(verify, status.SUCCESS) == "VERIFY → 9000"


def test_whose_application_a_name_is() -> None:
    assert application_of(bytes.fromhex("A0 00 00 03 08 00 00 10 00")) is PIV
    assert application_of(bytes.fromhex("A0 00 00 01 16 DB 00")) is GSC_IS
    assert application_of(bytes.fromhex("A0 00 00 00 03 00 00")) is GLOBAL_PLATFORM
    assert application_of(bytes.fromhex("A0 00 00 05 27 20 01 01")) is None


def test_every_status_word_of_ours_has_a_name() -> None:
    words = {value for name, value in vars(status).items() if name.isupper() and len(value) == 2}
    assert len(words) > 15
    for word in words:
        assert int.from_bytes(word, "big") in INTERINDUSTRY.status_words, word.hex()


def test_what_carries_a_secret_is_marked() -> None:
    """By the standards' lists, written out once more: in each application that has the command."""
    carriers = (
        (None, "20 21 24 25 26 28 2C 2D C2 C3 DA DB"),
        (PIV, "20 24 2C DB FE FF"),
        (GLOBAL_PLATFORM, "D8 E2"),
    )
    for application, instructions in carriers:
        for ins in bytes.fromhex(instructions):
            entry = instruction(ins, application)
            assert entry is not None and entry.secrets and not entry.fields, f"{ins:02X}"
    for application, instructions in ((None, "2A C0"), (GSC_IS, "42"), (PIV, "87 CB")):
        for ins in bytes.fromhex(instructions):
            entry = instruction(ins, application)
            assert entry is not None and entry.secret_answer, f"{ins:02X}"


# No secret

PINS = st.sampled_from([b"94718365", b"73915", b"8052946", b"zjQwkvXqJw", b"Xq7~pw"])
CARRYING = st.sampled_from(bytes.fromhex("20 21 24 25 26 28 2C 2D C2 DA DB FE FF D8"))
CLASSES = st.sampled_from(bytes.fromhex("00 00 80 10 90 0C 1C 04 01 84 A0 B0 40 60 20 D0 FF"))


def padded(pin: bytes) -> bytes:
    return pin.ljust(8, b"\xff")


@st.composite
def fields(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A PIN, and a command data field with it in one of its forms: bare, padded, twice, in BER."""
    pin, other = draw(PINS), draw(PINS)
    form = draw(st.integers(0, 4))
    data = (pin, padded(pin), padded(other) + padded(pin), padded(pin) * 2, b"")[form]
    if not data:
        data = b"\x80\x08" + padded(pin)
    return pin, data


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Commands with one PIN in them: whole or in parts, well formed or not."""
    pin, data = draw(fields())
    header = bytes((draw(CLASSES), draw(CARRYING))) + draw(st.sampled_from([b"\0\0", b"\0\x80"]))
    cut = draw(st.integers(0, len(data)))
    parts = [data] if draw(st.booleans()) else [data[:cut], data[cut:]]
    commands = []
    for number, part in enumerate(parts):
        cla = header[0] | (0x10 if number + 1 < len(parts) else 0)
        long = b"\0" + len(part).to_bytes(2, "big")
        length = bytes((len(part),)) if draw(st.booleans()) else long
        raw = bytes((cla,)) + header[1:] + length + part + draw(st.sampled_from([b"", b"\0"]))
        wrong = draw(st.integers(0, 5))
        if wrong == 1:
            raw = raw[: draw(st.integers(2, len(raw)))]
        elif wrong == 2:
            raw = raw[:4] + bytes((draw(st.integers(0, 255)),)) + raw[5:]
        elif wrong == 3:
            raw += draw(st.binary(max_size=4))
        elif wrong == 4:  # what a host sends that has lost the header
            raw = part
        commands.append(raw)
    return pin, commands


@given(conversations(), st.sampled_from([None, *APPLICATIONS]))
def test_no_pin_in_a_line(
    conversation: tuple[bytes, list[bytes]], application: Application | None
) -> None:
    """Not even three characters of it, in text or in hexadecimal; nor how long it is."""
    pin, commands = conversation
    for raw in commands:
        for expected in (None, status.SUCCESS):
            line = exchange_text(raw, status.tries_left(2), expected, application)
            for start in range(len(pin) - 2):
                piece = pin[start : start + 3]
                assert piece.decode() not in line.replace("63C2", "").replace("9000", "")
                assert piece.hex().upper() not in line.upper()
            if "malformed" in line or "VERIFY" in line:
                assert "byte" not in line.partition("→")[0]


@given(st.binary(max_size=300), st.binary(max_size=40), st.sampled_from([None, *APPLICATIONS]))
def test_any_bytes_make_a_line(raw: bytes, answer: bytes, application: Application | None) -> None:
    line = exchange_text(raw, answer, answer, application)
    assert line.isprintable() and len(line) < 250
