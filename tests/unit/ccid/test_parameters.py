# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an ATR offers and what a host may set (CCID rev 1.1, 6.1.7)."""

import pytest

from vccid.ccid.codes import Error
from vccid.ccid.messages import Refused
from vccid.ccid.parameters import Offer, ParametersT0, ParametersT1

from .host import T0_ATR, T1_ATR


def test_the_libcacard_atr_gives_t0() -> None:
    offer = Offer.parse(T0_ATR)
    assert offer.choose(0x3, 0x7) == 0
    assert (
        offer.parameters(0).serialize()
        == bytes.fromhex(
            "18"  # bmFindexDindex: TA1
            "00"  # bmTCCKST0: direct convention
            "00"  # bGuardTimeT0: TC1
            "0A"  # bWaitingIntegerT0
            "00"  # bClockStop
        )
    )


def test_the_t1_atr_gives_t1() -> None:
    offer = Offer.parse(T1_ATR)
    assert offer.choose(0x3, 0x7) == 1
    assert (
        offer.parameters(1).serialize()
        == bytes.fromhex(
            "13"  # bmFindexDindex: TA1
            "10"  # bmTCCKST1: LRC
            "00"  # bGuardTimeT1: TC1
            "45"  # bmWaitingIntegersT1: TB3
            "00"  # bClockStop
            "FE"  # bIFSC: TA3
            "00"  # bNadValue
        )
    )


@pytest.mark.parametrize(
    ("atr", "error"),
    [
        ("", Error.BAD_ATR_TS),
        ("3A00", Error.BAD_ATR_TS),
        ("3B8001", Error.BAD_ATR_TCK),  # no TCK
        ("3B800180", Error.BAD_ATR_TCK),
        ("3B03", Error.BAD_ATR_TCK),  # cut short
    ],
)
def test_a_damaged_atr(atr: str, error: Error) -> None:
    with pytest.raises(Refused) as refused:
        Offer.parse(bytes.fromhex(atr))
    assert refused.value.error == error


@pytest.mark.parametrize(
    ("specific", "offered", "protocol"),
    [
        ("01", "01", 1),  # T=0 first, but TA2 says T=1
        ("00", "01", 0),
        ("81", "01", 1),
    ],
)
def test_a_card_in_specific_mode(specific: str, offered: str, protocol: int) -> None:
    # TS, T0, TD1 = T=0 with TA2 and TD2, TA2, TD2, TCK
    raw = bytes.fromhex("3B" "80" "90" + specific + offered)
    check = raw[1] ^ raw[2] ^ raw[3] ^ raw[4]
    assert Offer.parse(raw + bytes((check,))).choose(0x3, 0x7) == protocol


def test_a_card_in_specific_mode_of_a_protocol_the_reader_has_not() -> None:
    # TS, T0, TD1 = T=0 with TA2 and TD2, TA2 = T=1, TD2 = T=1, TCK
    offer = Offer.parse(bytes.fromhex("3B" "80" "90" "01" "01" "10"))
    with pytest.raises(Refused) as refused:
        offer.choose(0x1, 0x7)
    assert refused.value.error == Error.ICC_PROTOCOL_NOT_SUPPORTED


def test_a_protocol_or_class_the_reader_has_not() -> None:
    only_t14 = bytes.fromhex("3B" "80" "0E" "8E")
    with pytest.raises(Refused) as refused:
        Offer.parse(only_t14).choose(0x3, 0x7)
    assert refused.value.error == Error.ICC_PROTOCOL_NOT_SUPPORTED
    # TD1 = T=0 and TD2, TD2 = T=15 and TA3, TA3 = class A only
    class_a = bytes.fromhex("3B" "80" "80" "1F" "01" "1E")
    assert Offer.parse(class_a).choose(0x3, 0x7) == 0
    with pytest.raises(Refused) as refused:
        Offer.parse(class_a).choose(0x3, 0x6)
    assert refused.value.error == Error.ICC_CLASS_NOT_SUPPORTED


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        ("7100000A00", 0x0A),  # FI 7 is RFU
        ("1000000A00", 0x0A),  # DI 0 is RFU
        ("1101000A00", 0x0B),
        ("1100000000", 0x0D),
        ("1100000A04", 0x0E),
    ],
)
def test_t0_fields_are_named_by_offset(raw: str, offset: int) -> None:
    with pytest.raises(Refused) as refused:
        ParametersT0.parse(bytes.fromhex(raw))
    assert refused.value.error == offset


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        ("7110004D002000", 0x0A),
        ("1100004D002000", 0x0B),
        ("111000AD002000", 0x0D),
        ("1110004D042000", 0x0E),
        ("1110004D000000", 0x0F),
        ("1110004D00FF00", 0x0F),
        ("1110004D002001", 0x10),
    ],
)
def test_t1_fields_are_named_by_offset(raw: str, offset: int) -> None:
    with pytest.raises(Refused) as refused:
        ParametersT1.parse(bytes.fromhex(raw))
    assert refused.value.error == offset


def test_the_standards_defaults() -> None:
    assert ParametersT0().serialize() == bytes.fromhex("1100000A00")
    assert ParametersT1().serialize() == bytes.fromhex("1110004D002000")
    assert ParametersT0.parse(ParametersT0().serialize()) == ParametersT0()
    assert ParametersT1.parse(ParametersT1().serialize()) == ParametersT1()
