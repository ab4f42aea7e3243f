# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every message of CCID rev 1.1, one field a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.ccid import messages as m
from vccid.ccid import responses as r
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import Chain, ClockStatus, CommandStatus, Error, IccStatus, Protocol
from vccid.errors import RemoteProtocolError

COMMANDS = [
    (bytes.fromhex("62" "00000000" "00" "01" "01" "0000"), m.IccPowerOn(0, 1, power_select=1)),
    (bytes.fromhex("63" "00000000" "00" "02" "000000"), m.IccPowerOff(0, 2)),
    (bytes.fromhex("65" "00000000" "01" "03" "000000"), m.GetSlotStatus(1, 3)),
    (
        bytes.fromhex(
            "6F"  # bMessageType
            "05000000"  # dwLength
            "00"  # bSlot
            "04"  # bSeq
            "07"  # bBWI
            "0300"  # wLevelParameter: continues
            "00A4040000"  # abData
        ),
        m.XfrBlock(0, 4, 7, Chain.CONTINUES, bytes.fromhex("00A4040000")),
    ),
    (bytes.fromhex("6C" "00000000" "00" "05" "000000"), m.GetParameters(0, 5)),
    (bytes.fromhex("6D" "00000000" "00" "06" "000000"), m.ResetParameters(0, 6)),
    (
        bytes.fromhex(
            "61"  # bMessageType
            "05000000"  # dwLength
            "00"  # bSlot
            "07"  # bSeq
            "00"  # bProtocolNum
            "0000"  # RFU
            "1100000A00"  # abProtocolDataStructure
        ),
        m.SetParameters(0, 7, 0, bytes.fromhex("1100000A00")),
    ),
    (bytes.fromhex("6B" "02000000" "00" "08" "000000" "6A01"), m.Escape(0, 8, b"\x6a\x01")),
    (bytes.fromhex("6E" "00000000" "00" "09" "01" "0000"), m.IccClock(0, 9, 1)),
    (bytes.fromhex("6A" "00000000" "00" "0A" "03" "00" "FF"), m.T0APDU(0, 10, 3, 0, 0xFF)),
    (bytes.fromhex("69" "01000000" "00" "0B" "00" "0000" "04"), m.Secure(0, 11, 0, 0, b"\x04")),
    (bytes.fromhex("71" "00000000" "00" "0C" "02" "0000"), m.Mechanical(0, 12, 2)),
    (bytes.fromhex("72" "00000000" "00" "0D" "000000"), m.Abort(0, 13)),
    (
        bytes.fromhex(
            "73"  # bMessageType
            "08000000"  # dwLength
            "00"  # bSlot
            "0E"  # bSeq
            "000000"  # RFU
            "A00F0000"  # dwClockFrequency: 4000 kHz
            "002A0000"  # dwDataRate: 10752 bit/s
        ),
        m.SetDataRateAndClockFrequency(0, 14, 4000, 10752),
    ),
]


@pytest.mark.parametrize(("raw", "command"), COMMANDS, ids=lambda value: type(value).__name__)
def test_commands_both_ways(raw: bytes, command: m.Command) -> None:
    assert command.serialize() == raw
    header = m.Header.parse(raw)
    assert header.length == len(raw) - 10
    assert m.parse_command(header, raw[10:]) == command


@pytest.mark.parametrize(
    ("kind", "length"),
    [(0x62, 1), (0x63, 1), (0x65, 1), (0x6C, 1), (0x6D, 2), (0x6E, 1), (0x6A, 1), (0x71, 1),
     (0x72, 1), (0x73, 7), (0x73, 9), (0x69, 0), (0x61, 4), (0x61, 7)],
)  # fmt: skip
def test_an_impossible_length_is_refused(kind: int, length: int) -> None:
    with pytest.raises(m.Refused) as refused:
        m.parse_command(m.Header(kind, length, 0, 0, b"\0\0\0"), bytes(length))
    assert refused.value.error == Error.BAD_LENGTH


RESPONSES = [
    (
        bytes.fromhex(
            "80"  # bMessageType
            "02000000"  # dwLength
            "00"  # bSlot
            "01"  # bSeq
            "00"  # bStatus: active, done
            "00"  # bError
            "01"  # bChainParameter
            "9000"  # abData
        ),
        r.DataBlock(0, 1, IccStatus.ACTIVE, specific=Chain.BEGINS, data=b"\x90\x00"),
    ),
    (
        bytes.fromhex(
            "81"  # bMessageType
            "00000000"  # dwLength
            "00"  # bSlot
            "02"  # bSeq
            "42"  # bStatus: absent, failed
            "FE"  # bError
            "01"  # bClockStatus
        ),
        r.SlotStatus(0, 2, IccStatus.ABSENT, CommandStatus.FAILED, 0xFE, ClockStatus.STOPPED_LOW),
    ),
    (
        bytes.fromhex("82" "05000000" "00" "03" "00" "00" "00" "1100000A00"),
        r.ParametersAnswer(0, 3, IccStatus.ACTIVE, data=bytes.fromhex("1100000A00")),
    ),
    (
        bytes.fromhex("83" "00000000" "01" "04" "41" "00" "00"),
        r.EscapeAnswer(1, 4, IccStatus.INACTIVE, CommandStatus.FAILED),
    ),
    (
        bytes.fromhex("84" "08000000" "00" "05" "01" "00" "00" "A00F0000" "002A0000"),
        r.DataRateAndClockFrequency(
            0, 5, IccStatus.INACTIVE, data=bytes.fromhex("A00F0000002A0000")
        ),
    ),
    (
        bytes.fromhex("80" "00000000" "00" "06" "80" "01" "00"),
        r.DataBlock(0, 6, IccStatus.ACTIVE, CommandStatus.TIME_EXTENSION, 1),
    ),
]


@pytest.mark.parametrize(("raw", "response"), RESPONSES, ids=lambda value: type(value).__name__)
def test_responses_both_ways(raw: bytes, response: r.Response) -> None:
    assert response.serialize() == raw
    assert r.RESPONSES[raw[0]].parse(raw) == response


def test_byte_nine_has_the_types_own_meaning() -> None:
    assert r.DataBlock.parse(RESPONSES[0][0]).chain is Chain.BEGINS
    assert r.SlotStatus.parse(RESPONSES[1][0]).clock is ClockStatus.STOPPED_LOW
    assert r.ParametersAnswer.parse(RESPONSES[2][0]).protocol is Protocol.T0


@pytest.mark.parametrize(
    "raw",
    [b"", bytes(9), bytes.fromhex("81" "01000000" "00000000" "00"), bytes(10),
     bytes.fromhex("81" "00000000" "0000" "03" "00" "00")],
)  # fmt: skip
def test_no_response(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        r.SlotStatus.parse(raw)


@pytest.mark.parametrize(
    ("raw", "slots"),
    [
        ("50" "03", ((True, True),)),
        ("50" "02", ((False, True),)),
        ("50" "01", ((True, False),)),
        # slot 0 in bits 1-0, slot 4 in the second byte
        ("50" "0C" "03", ((False, False), (True, True), (False, False), (False, False),
                          (True, True))),
    ],
)  # fmt: skip
def test_notify_slot_change(raw: str, slots: tuple[tuple[bool, bool], ...]) -> None:
    notification = r.NotifySlotChange(slots)
    assert notification.serialize() == bytes.fromhex(raw)
    assert r.NotifySlotChange.parse(bytes.fromhex(raw), len(slots)) == notification


def test_hardware_error() -> None:
    error = r.HardwareError(0, 9, 1)
    assert error.serialize() == bytes.fromhex("51" "00" "09" "01")
    assert r.HardwareError.parse(error.serialize()) == error
    with pytest.raises(RemoteProtocolError):
        r.HardwareError.parse(b"\x50\x00\x00\x00")


def test_secrets_are_not_shown() -> None:
    pin = b"\x00\x20\x00\x00\x06123456"
    shown = [
        repr(m.XfrBlock(0, 0, data=pin)),
        repr(m.Secure(0, 0, data=pin)),
        repr(r.DataBlock(0, 0, IccStatus.ACTIVE, data=pin)),
    ]
    assert not [text for text in shown if "123456" in text]


def test_class_descriptor_of_the_default_reader() -> None:
    raw = bytes.fromhex(
        "36"  # bLength: 54
        "21"  # bDescriptorType: functional
        "1001"  # bcdCCID: 1.10
        "00"  # bMaxSlotIndex
        "07"  # bVoltageSupport: 5, 3, 1.8 V
        "03000000"  # dwProtocols: T=0, T=1
        "A00F0000"  # dwDefaultClock: 4 MHz
        "A00F0000"  # dwMaximumClock
        "01"  # bNumClockSupported
        "002A0000"  # dwDataRate: 4 MHz / 372
        "16400500"  # dwMaxDataRate: 4 MHz * 32 / 372
        "06"  # bNumDataRatesSupported
        "FE000000"  # dwMaxIFSD
        "00000000"  # dwSynchProtocols
        "00000000"  # dwMechanical
        "7A040400"  # dwFeatures: all automatic, short and extended APDU
        "12000100"  # dwMaxCCIDMessageLength: 10 + 65544
        "FF"  # bClassGetResponse: echo
        "FF"  # bClassEnvelope: echo
        "0000"  # wLcdLayout
        "00"  # bPINSupport
        "01"  # bMaxCCIDBusySlots
    )
    assert ClassDescriptor.for_reader().serialize() == raw
    assert ClassDescriptor.parse(raw).max_message == 65554


def test_class_descriptor_of_a_short_two_slot_pin_pad() -> None:
    raw = ClassDescriptor.for_reader(2, extended=False, pin_pad=True, clock_stop=True).serialize()
    assert raw[4] == 1
    assert raw[40:44] == bytes.fromhex("7A050200")
    assert raw[44:48] == bytes.fromhex("0F010000")
    assert raw[52] == 3
    assert raw[53] == 2


@pytest.mark.parametrize("raw", [b"", bytes(54), b"\x36\x21" + bytes(51), b"\x36\x22" + bytes(52)])
def test_no_class_descriptor(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ClassDescriptor.parse(raw)


@given(st.binary(min_size=10, max_size=64))
def test_any_bytes_parse_or_are_refused(raw: bytes) -> None:
    try:
        command = m.parse_command(m.Header.parse(raw), raw[10:])
    except m.Refused:
        return
    assert command.serialize()[10:] == raw[10:]
