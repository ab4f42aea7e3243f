# SPDX-License-Identifier: LGPL-2.1-or-later
"""libpcsclite's wire, byte by byte; what is written here was seen between it and pcscd."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import RemoteProtocolError
from vccid.wire import pcsclite
from vccid.wire.pcsclite import Parser, Query, Rv

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are of such a host")

HANDLE = "21 43 65 07"


def parsed(wire: str) -> list[pcsclite.Message]:
    parser = Parser()
    parser.feed(bytes.fromhex(wire))
    messages = []
    while (message := parser.next_message()) is not None:
        messages.append(message)
    return messages


REQUESTS = {
    "version": (
        "0c 00 00 00"  # size
        "11 00 00 00"  # VERSION
        "04 00 00 00"  # major
        "05 00 00 00"  # minor
        "00 00 00 00",  # rv
        pcsclite.Version(4, 5, 0),
    ),
    "establish": (
        "0c 00 00 00"
        "01 00 00 00"  # ESTABLISH_CONTEXT
        "02 00 00 00"  # SCARD_SCOPE_SYSTEM
        "00 00 00 00"  # hContext
        "00 00 00 00",
        pcsclite.Establish(2, 0, 0),
    ),
    "connect": (
        "98 00 00 00"
        "04 00 00 00"  # CONNECT
        "78 56 34 12"  # hContext
        "61 20 30" + "00" * 125 +  # szReader
        "02 00 00 00"  # SHARED
        "03 00 00 00"  # T0 | T1
        "00 00 00 00"  # hCard
        "00 00 00 00"  # dwActiveProtocol
        "00 00 00 00",
        pcsclite.Connect(0x12345678, b"a 0".ljust(128, b"\0"), 2, 3, 0, 0, 0),
    ),
    "reconnect": (
        "18 00 00 00"
        "05 00 00 00" + HANDLE +
        "01 00 00 00"  # EXCLUSIVE
        "02 00 00 00"  # T1
        "02 00 00 00"  # UNPOWER
        "00 00 00 00"  # dwActiveProtocol
        "00 00 00 00",
        pcsclite.Reconnect(0x07654321, 1, 2, 2, 0, 0),
    ),
    "transmit": (
        "20 00 00 00"  # the struct alone
        "09 00 00 00" + HANDLE +
        "01 00 00 00"  # ioSendPciProtocol
        "10 00 00 00"  # ioSendPciLength
        "02 00 00 00"  # cbSendLength
        "03 00 00 00"  # ioRecvPciProtocol
        "10 00 00 00"  # ioRecvPciLength
        "02 01 00 00"  # pcbRecvLength
        "00 00 00 00"
        "00 a4",  # the APDU
        pcsclite.Transmit(0x07654321, 1, 16, 2, 3, 16, 258, 0, b"\x00\xa4"),
    ),
    "control": (
        "18 00 00 00"
        "0a 00 00 00" + HANDLE +
        "48 0d 00 42"  # dwControlCode
        "00 00 00 00"  # cbSendLength
        "00 01 00 00"  # cbRecvLength
        "00 00 00 00"  # dwBytesReturned
        "00 00 00 00",
        pcsclite.Control(0x07654321, 0x42000D48, 0, 256, 0, 0),
    ),
    "wait": ("00 00 00 00" "13 00 00 00", Query.WAIT),
    "stop": ("00 00 00 00" "14 00 00 00", Query.STOP),
}  # fmt: skip


@pytest.mark.parametrize(("wire", "message"), REQUESTS.values(), ids=REQUESTS)
def test_each_request_both_ways(wire: str, message: pcsclite.Message) -> None:
    assert parsed(wire) == [message]
    assert pcsclite.serialize_request(message) == bytes.fromhex(wire)


@pytest.mark.parametrize(("wire", "message"), REQUESTS.values(), ids=REQUESTS)
def test_byte_by_byte_and_with_more_behind(wire: str, message: pcsclite.Message) -> None:
    data = bytes.fromhex(wire)
    parser = Parser()
    for byte in data[:-1]:
        parser.feed(bytes([byte]))
        assert parser.next_message() is None
    parser.feed(data[-1:] + data)
    assert [parser.next_message(), parser.next_message()] == [message, message]
    assert parser.next_message() is None and parser.held == 0


def test_an_answer_is_the_struct_without_a_header() -> None:
    answer = pcsclite.Version(4, 5, Rv.E_SERVICE_STOPPED)
    assert pcsclite.serialize(answer) == bytes.fromhex(
        "04 00 00 00"
        "05 00 00 00"
        "1e 00 10 80"
    )  # fmt: skip


def test_an_answer_to_transmit_has_its_data_behind() -> None:
    request = pcsclite.Transmit(1, 1, 16, 2, 3, 16, 258, 0, b"\x00\xa4")
    assert pcsclite.serialize_transmit(request, b"\x90\x00") == bytes.fromhex(
        "01 00 00 00"
        "01 00 00 00"
        "10 00 00 00"
        "02 00 00 00"
        "03 00 00 00"
        "10 00 00 00"
        "02 00 00 00"  # pcbRecvLength
        "00 00 00 00"  # rv
        "90 00"
    )  # fmt: skip


def test_an_answer_longer_than_the_room_is_its_length_alone() -> None:
    request = pcsclite.Transmit(1, 1, 16, 2, 3, 16, 1, 0, b"\x00\xa4")
    assert pcsclite.serialize_transmit(request, b"\x90\x00")[-8:] == bytes.fromhex(
        "02 00 00 00"
        "08 00 10 80"
    )  # fmt: skip


def test_a_reader_and_the_free_places_behind_it() -> None:
    entry = pcsclite.Entry(b"a 0", 7, 0x34, -1, b"\x3b\x00", 1)
    array = pcsclite.serialize_entries([entry.serialize()], 16)
    assert array[:184] == (
        b"a 0".ljust(128, b"\0")
        + bytes.fromhex(
            "07 00 00 00"  # eventCounter
            "34 00 00 00"  # readerState
            "ff ff ff ff"  # readerSharing
            "3b 00" + "00" * 31 + "00 00 00"  # cardAtr, padding
            "02 00 00 00"  # cardAtrLength
            "01 00 00 00"  # cardProtocol
        )
    )  # fmt: skip
    assert array[184:] == bytes(15 * 184)
    assert pcsclite.Entry.parse(array[:184]) == entry


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ("0b 00 00 00 11 00 00 00", "struct of 11 bytes"),
        ("ff ff ff ff 09 00 00 00", "struct of 4294967295 bytes"),
        ("00 00 00 00 03 00 00 00", "command 0x3"),
        ("00 00 00 00 18 00 00 00", "command 0x18"),
        ("20 00 00 00 09 00 00 00" + "00" * 12 + "0d 00 01 00" + "00" * 16, "65549 bytes of data"),
        ("18 01 00 00 0f 00 00 00" + "00" * 272 + "09 01 00 00" + "00" * 4, "attribute of 265"),
    ],
)
def test_what_breaks_the_protocol(wire: str, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says):
        parsed(wire)


def test_a_query_may_claim_a_size_that_nobody_reads() -> None:
    assert parsed("05 00 00 00 12 00 00 00") == [Query.READERS_STATE]


@given(st.binary(max_size=200))
def test_the_quick_way_to_an_apdu_sees_the_same(data: bytes) -> None:
    header = bytes.fromhex("20 00 00 00 09 00 00 00")
    wire = header + bytes(12) + len(data).to_bytes(4, "little") + bytes(16) + data
    assert [pcsclite.parse_transmit(wire)] == parsed(wire.hex())
    for end in range(len(wire)):
        assert pcsclite.parse_transmit(wire[:end]) is None
        missing = pcsclite.more_of_transmit(wire[:end])
        assert (missing == 0 and end < 8) or 0 < missing <= len(wire) - end
    assert pcsclite.more_of_transmit(wire) == 0


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_raise(data: bytes) -> None:
    parser = Parser()
    parser.feed(data)
    try:
        while parser.next_message() is not None:
            pass
    except RemoteProtocolError:
        pass
