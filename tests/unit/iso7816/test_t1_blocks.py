# SPDX-License-Identifier: LGPL-2.1-or-later
"""Blocks of T=1, one field a line (ISO/IEC 7816-3:2006, 11.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.iso7816 import t1_blocks
from vccid.iso7816.t1_blocks import BadBlock, Block, Edc

SELECT = bytes.fromhex("00A4040000")
WIRE = [
    (
        bytes.fromhex(
            "00"  # NAD
            "40"  # PCB: I-block, N(S) 1
            "05"  # LEN
            "00A4040000"
            "E5"  # LRC
        ),
        Edc.LRC,
        Block(0x00, 0x40, SELECT),
    ),
    (
        bytes.fromhex(
            "12"  # NAD: SAD 2, DAD 1
            "92"  # PCB: R-block, N(R) 1, other error
            "00"  # LEN
            "80"  # LRC
        ),
        Edc.LRC,
        Block(0x12, 0x92),
    ),
    (
        bytes.fromhex(
            "00"  # NAD
            "C3"  # PCB: S(WTX request)
            "01"  # LEN
            "09"  # multiplier
            "CB"  # LRC, as a Swiss health card sends it
        ),
        Edc.LRC,
        Block(0x00, 0xC3, b"\x09"),
    ),
    (
        bytes.fromhex(
            "00"  # NAD
            "C1"  # PCB: S(IFS request)
            "01"  # LEN
            "FE"  # 254
            "544E"  # CRC
        ),
        Edc.CRC,
        Block(0x00, 0xC1, b"\xfe"),
    ),
]


@pytest.mark.parametrize(("raw", "edc", "block"), WIRE)
def test_wire_bytes(raw: bytes, edc: Edc, block: Block) -> None:
    assert block.serialize(edc) == raw
    assert Block.parse(raw, edc) == block


def test_the_crc_is_iso_13239s_register_from_ffff() -> None:
    assert Edc.CRC.compute(b"123456789") == bytes.fromhex("6F91")


def test_kinds_and_numbers() -> None:
    assert [Block(0, pcb).number for pcb in (0x00, 0x40, 0x60, 0x80, 0x90)] == [0, 1, 1, 0, 1]
    assert [Block(0, pcb).is_information for pcb in (0x60, 0x80, 0xC1)] == [True, False, False]
    assert [Block(0, pcb).is_ready for pcb in (0x60, 0x91, 0xE1)] == [False, True, False]


@pytest.mark.parametrize(
    ("head", "error"),
    [
        ("", t1_blocks.EDC_ERROR),
        ("00", t1_blocks.EDC_ERROR),
        ("0000", t1_blocks.EDC_ERROR),
        ("000001", t1_blocks.OTHER_ERROR),  # less behind LEN than it says
        ("00000000", t1_blocks.OTHER_ERROR),  # more
        ("0000FF" + "00" * 255, t1_blocks.OTHER_ERROR),  # LEN FF is RFU
        ("080000", t1_blocks.OTHER_ERROR),  # NAD: bit 4
        ("800000", t1_blocks.OTHER_ERROR),  # NAD: bit 8
        ("110000", t1_blocks.OTHER_ERROR),  # NAD: from 1 to 1
        ("000100", t1_blocks.OTHER_ERROR),  # I-block: bit 1 is RFU
        ("00A000", t1_blocks.OTHER_ERROR),  # R-block: bit 6
        ("008300", t1_blocks.OTHER_ERROR),  # R-block: error 3 is RFU
        ("00800100", t1_blocks.OTHER_ERROR),  # R-block with information
        ("00C00100", t1_blocks.OTHER_ERROR),  # S(RESYNCH) with information
        ("00C100", t1_blocks.OTHER_ERROR),  # S(IFS) without
        ("00C400", t1_blocks.OTHER_ERROR),  # no such S-block
    ],
)
def test_what_is_no_block(head: str, error: int) -> None:
    raw = bytes.fromhex(head)
    with pytest.raises(BadBlock) as bad:
        Block.parse(raw + (Edc.LRC.compute(raw) if len(raw) > 2 else b""), Edc.LRC)
    assert bad.value.error == error


@pytest.mark.parametrize("edc", Edc)
@given(data=st.binary(max_size=254), at=st.integers(0), flip=st.integers(1, 255))
def test_a_changed_byte_never_passes(edc: Edc, data: bytes, at: int, flip: int) -> None:
    raw = bytearray(Block(0, 0, data).serialize(edc))
    raw[at % len(raw)] ^= flip
    with pytest.raises(BadBlock):
        Block.parse(bytes(raw), edc)
