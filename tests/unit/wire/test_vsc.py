# SPDX-License-Identifier: LGPL-2.1-or-later
"""VSC messages against libcacard's vscard_common.h, one field a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import RemoteProtocolError
from vccid.wire import vsc

INIT = bytes.fromhex(
    "00000001"  # VSC_Init
    "00000000"  # reader_id
    "0000000c"  # length
    "56534344"  # magic: V S C D
    "00000002"  # version 0.0.2
    "00000000"  # capabilities[0]
)
WIRE = [
    (INIT, vsc.Init(0)),
    (
        bytes.fromhex(
            "00000001"  # VSC_Init
            "ffffffff"  # reader_id: undefined
            "00000010"  # length: two capability words
            "56534344"  # magic
            "00000002"  # version
            "00000001"  # capabilities[0]
            "00000002"  # capabilities[1]
        ),
        vsc.Init(vsc.UNDEFINED_READER_ID, 2, (1, 2)),
    ),
    (
        bytes.fromhex(
            "00000002"  # VSC_Error
            "ffffffff"  # reader_id: undefined
            "00000004"  # length
            "00000002"  # VSC_CANNOT_ADD_MORE_READERS
        ),
        vsc.Error(vsc.UNDEFINED_READER_ID, vsc.CANNOT_ADD_MORE_READERS),
    ),
    (
        bytes.fromhex(
            "00000003"  # VSC_ReaderAdd
            "00000000"  # reader_id
            "00000006"  # length
            "6f6666696365"  # "office"
        ),
        vsc.ReaderAdd(0, "office"),
    ),
    (
        bytes.fromhex(
            "00000004"  # VSC_ReaderRemove
            "00000001"  # reader_id
            "00000000"  # length
        ),
        vsc.ReaderRemove(1),
    ),
    (
        bytes.fromhex(
            "00000005"  # VSC_ATR
            "00000000"  # reader_id
            "00000002"  # length
            "3b00"  # TS, T0
        ),
        vsc.Atr(0, b"\x3b\x00"),
    ),
    (
        bytes.fromhex(
            "00000006"  # VSC_CardRemove
            "00000000"  # reader_id
            "00000000"  # length
        ),
        vsc.CardRemove(0),
    ),
    (
        bytes.fromhex(
            "00000007"  # VSC_APDU
            "00000000"  # reader_id
            "00000005"  # length
            "00c0000010"  # GET RESPONSE
        ),
        vsc.Apdu(0, bytes.fromhex("00c0000010")),
    ),
    (bytes.fromhex("00000008" "00000000" "00000000"), vsc.Flush(0)),
    (bytes.fromhex("00000009" "00000000" "00000000"), vsc.FlushComplete(0)),
]


@pytest.mark.parametrize(("wire", "message"), WIRE, ids=lambda value: type(value).__name__)
def test_each_message_both_ways(wire: bytes, message: vsc.Message) -> None:
    assert vsc.serialize(message) == wire
    assert list(vsc.Parser().feed(wire)) == [message]


def test_unknown_type_is_given_on() -> None:
    wire = bytes.fromhex("0000000a" "00000007" "00000001" "ff")
    assert list(vsc.Parser().feed(wire)) == [vsc.Unknown(10, 7, b"\xff")]


def test_name_with_its_c_terminator() -> None:
    wire = bytes.fromhex("00000003" "00000000" "00000003" "616200")
    assert list(vsc.Parser().feed(wire)) == [vsc.ReaderAdd(0, "ab")]


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ("00000007" "00000000" "00010009", "65545 bytes"),  # one more than an APDU can have
        ("00000007" "00000000" "ffffffff", "4294967295 bytes"),
        ("00000001" "00000000" "00000008" "56534344" "00000002", "Init of 8 bytes"),
        ("00000001" "00000000" "0000000d" "56534344" "00000002" "00000000" "00", "13 bytes"),
        ("00000001" "00000000" "0000000c" "44435356" "00000002" "00000000", "magic 44435356"),
        ("00000001" "00000000" "0000000c" "56534344" "00200000" "00000000", "version 1"),
        ("00000002" "00000000" "00000003" "000000", "Error of 3 bytes"),
    ],
)
def test_what_breaks_the_protocol(wire: str, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says):
        list(vsc.Parser().feed(bytes.fromhex(wire)))


ids = st.integers(0, 2**32 - 1)
messages = st.one_of(
    st.builds(vsc.Init, ids, st.integers(0, 2**21 - 1), st.lists(ids, min_size=1).map(tuple)),
    st.builds(vsc.Error, ids, ids),
    st.builds(vsc.ReaderAdd, ids, st.text(max_size=60).map(lambda name: name.rstrip("\0"))),
    st.builds(vsc.Atr, ids, st.binary(max_size=41)),
    st.builds(vsc.Apdu, ids, st.binary(max_size=300)),
    *(
        st.builds(kind, ids)
        for kind in (vsc.ReaderRemove, vsc.CardRemove, vsc.Flush, vsc.FlushComplete)
    ),
)


@given(st.lists(messages), st.binary(max_size=11))
def test_whole_byte_by_byte_and_with_more_behind(sent: list[vsc.Message], behind: bytes) -> None:
    stream = b"".join(map(vsc.serialize, sent))
    assert list(vsc.Parser().feed(stream + behind)) == sent
    parser = vsc.Parser()
    assert [m for byte in stream for m in parser.feed(bytes([byte]))] == sent


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_raise(data: bytes) -> None:
    try:
        for message in vsc.Parser().feed(data):
            if not isinstance(message, vsc.Unknown):
                vsc.serialize(message)
    except RemoteProtocolError:
        pass
