# SPDX-License-Identifier: LGPL-2.1-or-later
"""PPS, as libccid sends it and as it must not be mistaken (ISO/IEC 7816-3:2006, section 9)."""

import pytest

from vccid.iso7816.pps import Pps


@pytest.mark.parametrize(
    ("raw", "pps"),
    [
        ("FF" "11" "18" "F6", Pps(1, 0x18)),
        ("FF" "10" "18" "F7", Pps(0, 0x18)),
        ("FF" "01" "FE", Pps(1)),
    ],
)  # fmt: skip
def test_wire_bytes(raw: str, pps: Pps) -> None:
    assert Pps.parse(bytes.fromhex(raw)) == pps
    assert pps.serialize() == bytes.fromhex(raw)


def test_pps2_and_pps3_are_declined() -> None:
    request = Pps.parse(bytes.fromhex("FF" "71" "18" "01" "02" "95"))  # fmt: skip
    assert request == Pps(1, 0x18)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "FF00",
        "FF1118F7",  # wrong PCK
        "FF11FE",  # PPS1 is missing
        "FF0118E6",  # too long
        "FF817E",  # RFU bit of PPS0
        "FFCA000000",  # a command of class FF
        "00A4040000",
    ],
)
def test_what_is_none(raw: str) -> None:
    assert Pps.parse(bytes.fromhex(raw)) is None
