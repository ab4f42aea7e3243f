# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbredir messages against the protocol's document, one field a line."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import LocalProtocolError, RemoteProtocolError
from vccid.wire import usbredir
from vccid.wire.usbredir import Capability, EndpointInfo, EndpointType, Status, Type

#: QEMU's: everything.
QEMU_HELLO = bytes.fromhex(
    "00000000"  # type: hello
    "44000000"  # length: 64 + 4
    "00000000"  # id: always 4 bytes
) + b"qemu usb-redir guest 7.2.22".ljust(64, b"\0") + bytes.fromhex(
    "ff000000"  # capabilities
)  # fmt: skip


def connected(capabilities: int = 0xFF) -> usbredir.Codec:
    codec = usbredir.Codec("vccid 1")
    (hello,) = codec.feed(QEMU_HELLO[:-4] + capabilities.to_bytes(4, "little"))
    assert hello == usbredir.Hello("qemu usb-redir guest 7.2.22", Capability(capabilities))
    return codec


def test_our_hello() -> None:
    assert usbredir.Codec("vccid 1").hello() == bytes.fromhex(
        "00000000"  # type: hello
        "44000000"  # length
        "00000000"  # id
    ) + b"vccid 1".ljust(64, b"\0") + bytes.fromhex("7e000000")  # fmt: skip


def test_nothing_goes_out_before_their_hello() -> None:
    with pytest.raises(LocalProtocolError):
        usbredir.Codec("vccid 1").device_disconnect()


REQUESTS = [
    (
        "06000000"  # set_configuration
        "01000000"  # length
        "0500000000000000"  # id
        "01",  # configuration
        usbredir.Request(Type.SET_CONFIGURATION, 5, (1,)),
    ),
    (
        "09000000"  # set_alt_setting
        "02000000"  # length
        "0600000000000000"  # id
        "00"  # interface
        "01",  # alt
        usbredir.Request(Type.SET_ALT_SETTING, 6, (0, 1)),
    ),
    (
        "0f000000"  # start_interrupt_receiving
        "01000000"  # length
        "0700000000000000"  # id
        "82",  # endpoint
        usbredir.Request(Type.START_INTERRUPT_RECEIVING, 7, (0x82,)),
    ),
    (
        "15000000"  # cancel_data_packet
        "00000000"  # length
        "ffffffffffffffff",  # id
        usbredir.Request(Type.CANCEL_DATA_PACKET, 2**64 - 1),
    ),
    ("03000000" "00000000" "0000000000000000", usbredir.Request(Type.RESET, 0)),
    (
        "17000000"  # filter_filter
        "0f000000"  # length
        "0000000000000000"  # id
        "307830422c2d312c2d312c2d312c31",  # rules
        usbredir.Filter("0x0B,-1,-1,-1,1"),
    ),
    (
        "64000000"  # control_packet
        "0a000000"  # length
        "0800000000000000"  # id
        "80"  # endpoint
        "06"  # request: GET_DESCRIPTOR
        "80"  # requesttype
        "2c"  # status: whatever QEMU's memory held
        "0001"  # value
        "0000"  # index
        "1200",  # length
        usbredir.ControlPacket(8, 0x80, 6, 0x80, 0x100, 0, 18),
    ),
    (
        "65000000"  # bulk_packet
        "0d000000"  # length
        "0900000000000000"  # id
        "01"  # endpoint
        "00"  # status
        "0300"  # length
        "00000000"  # stream_id
        "0000"  # length_high
        "aabbcc",  # data
        usbredir.BulkPacket(9, 0x01, 3, b"\xaa\xbb\xcc"),
    ),
    (
        "65000000"  # bulk_packet
        "0a000000"  # length
        "0a00000000000000"  # id
        "81"  # endpoint: IN
        "fe"  # status
        "1400"  # length
        "00000000"  # stream_id
        "0100",  # length_high
        usbredir.BulkPacket(10, 0x81, 0x10014),
    ),
    (
        "67000000"  # interrupt_packet
        "05000000"  # length
        "0b00000000000000"  # id
        "03"  # endpoint: OUT
        "00"  # status
        "0100"  # length
        "ff",  # data
        usbredir.InterruptPacket(11, 0x03, 1, b"\xff"),
    ),
]


@pytest.mark.parametrize(("wire", "message"), REQUESTS)
def test_what_the_guest_asks(wire: str, message: usbredir.Message) -> None:
    assert list(connected().feed(bytes.fromhex(wire))) == [message]


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ("08000000" "02000000" + "00" * 8 + "0000", "type 8"),  # a host's own message
        ("12000000" "00000000" + "00" * 8, "type 18"),  # alloc_bulk_streams, not agreed
        ("66000000" "00000000" + "00" * 8, "type 102"),  # iso_packet
        ("06000000" "00000000" + "00" * 8, "set_configuration of 0"),
        ("64000000" "09000000" + "00" * 17, "control_packet of 9"),
        ("64000000" "0a000000" + "00" * 8 + "0006000000000000" "0100", "length 1"),
        ("64000000" "0b000000" + "00" * 8 + "8006800000000000" "0000" "ff", "1 bytes of data"),
        ("65000000" "09000000" + "00" * 17, "bulk_packet of 9"),
        ("65000000" "0a000000" + "00" * 8 + "8100ffff00000000" "ffff", "for 4294967295"),
        ("67000000" "04000000" + "00" * 8 + "82000000", "interrupt_packet IN"),
        ("65000000" "ffffffff" + "00" * 8, "4294967295 bytes"),
    ],
)
def test_what_breaks_the_protocol(wire: str, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says):
        list(connected().feed(bytes.fromhex(wire)))


@pytest.mark.parametrize(
    "wire", ["03000000" "00000000" "00000000", "00000000" "3f000000" "00000000" + "00" * 63]
)
def test_hello_comes_first_and_whole(wire: str) -> None:
    with pytest.raises(RemoteProtocolError, match="hello"):
        list(usbredir.Codec("").feed(bytes.fromhex(wire)))


def test_device_connect() -> None:
    wire = connected().device_connect(usbredir.Speed.FULL, (0, 0, 0), 0x0E0F, 0x0004, 0x0100)
    assert (
        wire
        == bytes.fromhex(
            "01000000"  # device_connect
            "0a000000"  # length
            "0000000000000000"  # id
            "01"  # speed: full
            "000000"  # class, subclass, protocol
            "0f0e"  # vendor_id
            "0400"  # product_id
            "0001"  # device_version_bcd
        )
    )
    # A peer of 2010: short ids, no version.
    old = connected(0).device_connect(usbredir.Speed.FULL, (0, 0, 0), 0x0E0F, 0x0004, 0x0100)
    assert old == bytes.fromhex("01000000" "08000000" "00000000" "01" "000000" "0f0e" "0400")


def test_interface_info() -> None:
    wire = connected().interface_info(((0x0B, 0x00, 0x02),))
    assert wire[:16] == bytes.fromhex("04000000" "84000000" "0000000000000000")
    count, *columns = struct.unpack("<I32s32s32s32s", wire[16:])
    assert count == 1
    assert [column[0] for column in columns] == [0, 0x0B, 0, 2]
    assert not any(any(column[1:]) for column in columns)


def test_ep_info() -> None:
    endpoints = {
        0x00: EndpointInfo(EndpointType.CONTROL, 0, 0, 64),
        0x82: EndpointInfo(EndpointType.INTERRUPT, 16, 0, 8),
    }
    wire = connected().ep_info(endpoints)
    assert wire[:16] == bytes.fromhex("05000000" "a0000000" "0000000000000000")
    types, intervals, interfaces, *sizes = struct.unpack("<32s32s32s32H", wire[16:])
    assert types[0] == 0
    assert types[18] == 3
    assert set(types[1:18] + types[19:]) == {255}
    assert intervals == bytes(18) + b"\x10" + bytes(13)
    assert interfaces == bytes(32)
    assert sizes == [64, *[0] * 17, 8, *[0] * 13]
    assert len(connected(0).ep_info(endpoints)) == 12 + 96


def test_answers() -> None:
    codec = connected()
    assert codec.status(Type.CONFIGURATION_STATUS, 5, Status.SUCCESS, 1) == bytes.fromhex(
        "08000000" "02000000" "0500000000000000" "00" "01"
    )
    read = usbredir.BulkPacket(10, 0x81, 2, b"\x90\x00")
    assert (
        codec.packet(read)
        == bytes.fromhex(
            "65000000"  # bulk_packet
            "0c000000"  # length
            "0a00000000000000"  # id
            "81"  # endpoint
            "00"  # status
            "0200"  # length
            "00000000"  # stream_id
            "0000"  # length_high
            "9000"  # data
        )
    )
    stalled = usbredir.ControlPacket(8, 0x80, 6, 0x80, 0x100, 0, 0, status=Status.STALL)
    assert codec.packet(stalled) == bytes.fromhex(
        "64000000" "0a000000" "0800000000000000" "80" "06" "80" "04" "0001" "0000" "0000"
    )
    notification = usbredir.InterruptPacket(0, 0x82, 2, b"\x50\x03")
    assert codec.packet(notification) == bytes.fromhex(
        "67000000" "06000000" "0000000000000000" "82" "00" "0200" "5003"
    )
    with pytest.raises(LocalProtocolError):
        codec.packet(usbredir.BulkPacket(1, 0x01, 1, b"\x00"))


STREAM = b"".join(bytes.fromhex(wire) for wire, _ in REQUESTS)


@given(st.lists(st.integers(1, 40), max_size=30), st.binary(max_size=15))
def test_whole_in_pieces_and_with_more_behind(cuts: list[int], behind: bytes) -> None:
    expected = [message for _, message in REQUESTS]
    assert list(connected().feed(STREAM + behind[:11])) == expected
    codec, at, got = connected(), 0, []
    for cut in [*cuts, len(STREAM)]:
        got += codec.feed(STREAM[at : at + cut])
        at += cut
    assert got == expected


def test_byte_by_byte() -> None:
    codec = usbredir.Codec("")
    got = [m for byte in QEMU_HELLO + STREAM for m in codec.feed(bytes([byte]))]
    assert got[1:] == [message for _, message in REQUESTS]


@given(st.binary(max_size=200), st.integers(0, 255))
def test_any_bytes_parse_or_raise(data: bytes, capabilities: int) -> None:
    codec = connected(capabilities)
    with contextlib.suppress(RemoteProtocolError):
        list(codec.feed(data))
