# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answer to reset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import RemoteProtocolError
from vccid.iso7816.atr import LIBCACARD_ATR, T1_ATR, Atr, fault_of


def test_libcacards() -> None:
    atr = Atr.parse(LIBCACARD_ATR)
    assert atr.interface == {"TA1": 0x18, "TB1": 0x00, "TC1": 0x00}
    assert (atr.historical, atr.protocols) == (b"sfte cd144", (0,))


def test_t1() -> None:
    atr = Atr.parse(T1_ATR)
    assert atr.interface == {
        "TA1": 0x13,
        "TB1": 0x00,
        "TC1": 0x00,
        "TD1": 0x81,
        "TD2": 0x31,
        "TA3": 0xFE,
        "TB3": 0x45,
    }
    assert atr.historical == bytes.fromhex("80 31 C1 73 C0 21 C0")
    assert atr.protocols == (1,)


@pytest.mark.parametrize(
    ("raw", "protocols"),
    [
        ("3B 00", (0,)),  # nothing but TS and T0
        ("3B 89 00 56 43 41 52 44 5F 4E 53 53", (0,)),  # TD1 says T=0: no check byte
        ("3B F9 96 00 00 80 31 FE 45 53 43 45 37 20 0F 00 20 46 4E", (0, 1)),  # G+D SCE7
        ("3B DB 96 00 80 1F 03 00 31 C0 64 B0 F3 10 00 07 90 00 80", (0,)),  # T=0, T=15
        ("3B D8 18 00 80 B1 FE 45 1F 07 80 31 C1 64 08 06 92 0F D5", (0, 1)),  # IDEMIA
        ("3B FD 13 00 00 81 31 FE 15 80 73 C0 21 C0 57 59 75 62 69 4B 65 79 40", (1,)),
    ],
)
def test_cards_of_the_world(raw: str, protocols: tuple[int, ...]) -> None:
    assert Atr.parse(bytes.fromhex(raw)).protocols == protocols


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x3b",
        b"\x00\x00",  # TS
        LIBCACARD_ATR[:-1],
        LIBCACARD_ATR + b"\x00",  # a check byte with T=0 alone
        T1_ATR[:-1],
        T1_ATR[:-1] + b"\xce",  # wrong check byte
        T1_ATR + b"\x00",
        b"\x3b\xf0\x11",  # ends within TA1 to TD1
        b"\x3b" + b"\x80" * 33,
    ],
)
def test_refused(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Atr.parse(raw)


@given(st.binary(max_size=40) | st.binary(max_size=36).map(lambda tail: b"\x3b" + tail))
def test_any_bytes(raw: bytes) -> None:
    try:
        atr = Atr.parse(raw)
    except RemoteProtocolError:
        return
    tck = any(value & 0x0F for name, value in atr.interface.items() if name[1] == "D")
    assert len(raw) == 2 + len(atr.interface) + len(atr.historical) + tck
    assert atr.protocols and atr.historical in raw


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ("3B 80 0E 8E", "T=0 or T=1"),  # T=14 alone
        ("3B 90 11 0E 8F", "T=0 or T=1"),
        ("3B 90 95 81 01 85", ""),
        ("3B 10 75", "TA1"),  # Fi of 7 is RFU
        ("3B 10 1A", "TA1"),  # Di of 10 is RFU
        ("3B 80 81 11 00 10", "IFSC"),
        ("3B 80 81 11 FF EF", "IFSC"),
        ("3B 80 81 21 A5 85", "BWI"),
        ("3B 80 81 41 02 42", "TC of T=1"),
        ("3B 80 40 00", "TC2"),
        (LIBCACARD_ATR.hex(), ""),
        (T1_ATR.hex(), ""),
    ],
)
def test_what_readers_here_cannot_do(raw: str, word: str) -> None:
    wrong = fault_of(Atr.parse(bytes.fromhex(raw)))
    assert (word in wrong) if word else not wrong
