# SPDX-License-Identifier: LGPL-2.1-or-later
"""vpcd's frames: a length of two bytes, big-endian, and that much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import LocalProtocolError
from vccid.wire.vpcd import LONGEST, Control, Parser, serialize

FRAMES = st.lists(st.binary(min_size=1, max_size=600), max_size=8)


def test_a_control() -> None:
    assert serialize(bytes((Control.ATR,))) == bytes.fromhex("00 01 04")


def test_a_command() -> None:
    select = bytes.fromhex("00 A4 04 00 02 3F 00")
    assert serialize(select) == b"\x00\x07" + select


def test_the_longest() -> None:
    assert serialize(bytes(LONGEST))[:2] == b"\xff\xff"


@pytest.mark.parametrize("size", [0, LONGEST + 1])
def test_what_no_frame_carries(size: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"{size} bytes"):
        serialize(bytes(size))


@given(FRAMES, st.integers(1, 700))
def test_however_it_is_cut(frames: list[bytes], size: int) -> None:
    stream = b"".join(map(serialize, frames))
    parser = Parser()
    pieces = (stream[at : at + size] for at in range(0, len(stream), size))
    assert [frame for piece in pieces for frame in parser.feed(piece)] == frames


def test_byte_by_byte_and_with_more_behind() -> None:
    parser = Parser()
    got = [list(parser.feed(bytes((byte,)))) for byte in bytes.fromhex("00 02 90 00 00 01")]
    assert got == [[], [], [], [b"\x90\x00"], [], []]
    assert list(parser.feed(b"\x04\x00\x00")) == [b"\x04", b""]
