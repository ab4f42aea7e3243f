# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIMPLE-TLV with GSC-IS's little-endian lengths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import RemoteProtocolError
from vccid.iso7816 import tlv

ITEMS = st.lists(
    st.tuples(
        st.integers(1, 0xFE),
        st.binary(max_size=20) | st.sampled_from([254, 255, 256, 700]).map(bytes),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("length", "field"),
    [(0, "00"), (254, "FE"), (255, "FF FF 00"), (780, "FF 0C 03"), (65_534, "FF FE FF")],
)
def test_lengths(length: int, field: str) -> None:
    assert tlv.encode_header(0x70, length) == b"\x70" + bytes.fromhex(field)
    assert list(tlv.parse(tlv.encode(0x70, bytes(length)))) == [(0x70, bytes(length))]


def test_buffers() -> None:
    """The example of a PKI applet with a certificate of 780 bytes."""
    tags, values = tlv.buffers([(0x71, b"\x00"), (0x70, b"\x30" * 780), (0x72, b""), (0xFE, b"")])
    assert (
        tags
        == bytes.fromhex(
            "0A 00"  # ten bytes follow
            "71 01"
            "70 FF 0C 03"
            "72 00"
            "FE 00"
        )
    )
    assert values == bytes.fromhex("0D 03" "00") + b"\x30" * 780


@pytest.mark.parametrize(("tag", "length"), [(0, 0), (0xFF, 0), (1, 65_535), (1, -1)])
def test_none_such(tag: int, length: int) -> None:
    with pytest.raises(ValueError):
        tlv.encode_header(tag, length)


def test_too_much_for_an_object() -> None:
    with pytest.raises(ValueError):
        tlv.buffers([(1, bytes(40_000)), (2, bytes(40_000))])


@pytest.mark.parametrize(
    "raw", ["00 00", "FF 00", "01", "01 02 00", "01 FF", "01 FF 01", "01 FF FF FF"]
)
def test_refused(raw: str) -> None:
    with pytest.raises(RemoteProtocolError):
        list(tlv.parse(bytes.fromhex(raw)))


@given(ITEMS)
def test_whole(items: list[tuple[int, bytes]]) -> None:
    assert list(tlv.parse(tlv.encode_all(items))) == items


@given(ITEMS, st.integers(1, 20))
def test_cut_short(items: list[tuple[int, bytes]], count: int) -> None:
    """What was whole before the cut is told; never anything else."""
    told = []
    raw = tlv.encode_all(items)
    try:
        for item in tlv.parse(raw[:-count]):
            told.append(item)
    except RemoteProtocolError:
        pass
    assert told == items[: len(told)]
    assert len(told) < len(items) or not items


@given(st.binary(max_size=60))
def test_any_bytes(raw: bytes) -> None:
    try:
        items = list(tlv.parse(raw))
    except RemoteProtocolError:
        return
    assert sum(len(value) for _, value in items) <= len(raw)
