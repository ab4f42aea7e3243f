# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command and response APDUs."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vccid.errors import RemoteProtocolError
from vccid.iso7816.apdu import MAX_COMMAND, MAX_RESPONSE, Command, Response

HEADER = bytes.fromhex("00 A4 04 00")


@pytest.mark.parametrize(
    ("body", "data", "le"),
    [
        ("", "", 0),  # case 1
        ("0D", "", 13),  # case 2, short
        ("00", "", 256),
        ("02 30 00", "30 00", 0),  # case 3, short
        ("02 30 00 10", "30 00", 16),  # case 4, short
        ("02 30 00 00", "30 00", 256),
        ("00 01 00", "", 256),  # case 2, extended
        ("00 00 00", "", 65_536),
        ("00 00 02 30 00", "30 00", 0),  # case 3, extended
        ("00 00 02 30 00 01 00", "30 00", 256),  # case 4, extended
        ("00 00 02 30 00 00 00", "30 00", 65_536),
    ],
)
def test_each_case(body: str, data: str, le: int) -> None:
    command = Command.parse(HEADER + bytes.fromhex(body))
    assert command == Command(0x00, 0xA4, 0x04, 0x00, bytes.fromhex(data), le)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "00 A4 04",  # no whole header
        "00 A4 04 00 02 30",  # less than Lc says
        "00 A4 04 00 02 30 00 10 10",  # more
        "00 A4 04 00 00 00",  # half an extended Le
        "00 A4 04 00 00 00 00 00",  # extended Lc of nothing
        "00 A4 04 00 00 00 02 30",
        "00 A4 04 00 00 00 02 30 00 10",  # half an extended Le behind data
    ],
)
def test_lengths_that_do_not_agree(raw: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Command.parse(bytes.fromhex(raw))


@st.composite
def commands(draw: st.DrawFn) -> tuple[bytes, Command]:
    """A command's bytes in any of its forms, and what they mean."""
    header = draw(st.binary(min_size=4, max_size=4))
    data = draw(st.binary(max_size=300))
    le = draw(st.sampled_from([0, 1, 255, 256, 257, 65_535, 65_536]))
    extended = len(data) > 255 or le > 256 or (draw(st.booleans()) and (data or le))
    if extended:
        body = b"\x00"
        body += len(data).to_bytes(2, "big") + data if data else b""
        body += (le & 0xFFFF).to_bytes(2, "big") if le else b""
    else:
        body = (bytes((len(data),)) + data if data else b"") + (bytes((le & 0xFF,)) if le else b"")
    return header + body, Command(*header, data, le)


@given(commands())
def test_whole(sample: tuple[bytes, Command]) -> None:
    raw, command = sample
    assert Command.parse(raw) == command


@given(commands(), st.integers(0, 310))
def test_cut_anywhere(sample: tuple[bytes, Command], count: int) -> None:
    """A command cut short is refused, or is a shorter command; it never reads past its end."""
    raw, command = sample
    try:
        cut = Command.parse(raw[:count])
    except RemoteProtocolError:
        return
    assert len(cut.data) <= len(command.data) or count >= len(raw)


@given(st.binary(max_size=600))
@example(HEADER + b"\x00\xff\xff" + bytes(65_535) + b"\x00\x00")
def test_any_bytes(raw: bytes) -> None:
    try:
        command = Command.parse(raw)
    except RemoteProtocolError:
        return
    assert raw[:4] == bytes(command[:4]) and command.data in raw and 0 <= command.le <= 65_536


def test_the_longest_command() -> None:
    raw = HEADER + b"\x00\xff\xff" + bytes(65_535) + b"\x00\x00"
    assert len(raw) == MAX_COMMAND
    assert len(Command.parse(raw).data) == 65_535


def test_response() -> None:
    assert Response.parse(bytes.fromhex("0A 00 90 00")) == Response(b"\x0a\x00", 0x9000)
    assert Response.parse(b"\x6a\x82") == Response(b"", 0x6A82)
    assert len(Response.parse(bytes(MAX_RESPONSE)).data) == 65_536


@pytest.mark.parametrize("raw", [b"", b"\x90", bytes(MAX_RESPONSE + 1)])
def test_no_response(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Response.parse(raw)
