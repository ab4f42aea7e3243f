# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB/IP messages, one field a line, and however they arrive."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import LocalProtocolError, RemoteProtocolError
from vccid.wire import usbip
from vccid.wire.usbip import (
    DeviceRecord,
    DevlistRequest,
    Direction,
    ImportRequest,
    Message,
    OpStatus,
    Receiver,
    Speed,
    Submit,
    Unlink,
    UrbStatus,
)


def wire(*fields: str) -> bytes:
    return b"".join(bytes.fromhex(field) for field in fields)


DEVLIST = wire(
    "0111",  # version
    "8005",  # OP_REQ_DEVLIST
    "00000000",  # status
)
IMPORT = wire(
    "0111",  # version
    "8003",  # OP_REQ_IMPORT
    "00000000",  # status
    "312d31" + "00" * 29,  # busid "1-1"
)
SUBMIT_OUT = wire(
    "00000001",  # USBIP_CMD_SUBMIT
    "00000d05",  # seqnum
    "0001000f",  # devid
    "00000000",  # direction: OUT
    "00000001",  # ep
    "00000000",  # transfer_flags
    "0000000a",  # transfer_buffer_length
    "00000000",  # start_frame
    "00000000",  # number_of_packets
    "00000000",  # interval
    "0000000000000000",  # setup
    "65000000000003000000",  # PC_to_RDR_GetSlotStatus
)
SUBMIT_CONTROL_IN = wire(
    "00000001",  # USBIP_CMD_SUBMIT
    "00000d06",  # seqnum
    "0001000f",  # devid
    "00000001",  # direction: IN
    "00000000",  # ep
    "00000200",  # transfer_flags: URB_DIR_IN
    "00000012",  # transfer_buffer_length
    "00000000",  # start_frame
    "ffffffff",  # number_of_packets, as the document has it
    "00000000",  # interval
    "8006000100001200",  # setup: GET_DESCRIPTOR(device)
)
UNLINK = wire(
    "00000002",  # USBIP_CMD_UNLINK
    "00000d07",  # seqnum
    "0001000f",  # devid
    "00000000",  # direction
    "00000000",  # ep
    "00000d05",  # seqnum of the CMD_SUBMIT
    "00" * 24,
)
URBS = [
    Submit(0xD05, Direction.OUT, 1, 10, bytes(8), bytes.fromhex("65000000000003000000")),
    Submit(0xD06, Direction.IN, 0, 18, bytes.fromhex("8006000100001200")),
    Unlink(0xD07, 0xD05),
]
URB_BYTES = SUBMIT_OUT + SUBMIT_CONTROL_IN + UNLINK

READER = DeviceRecord(
    path="vccid/vccid0",
    busid="1-1",
    busnum=1,
    devnum=2,
    speed=Speed.FULL,
    vendor=0x08E6,
    product=0x3437,
    bcd_device=0x0100,
    interfaces=((0x0B, 0, 0),),
)
RECORD = wire(
    b"vccid/vccid0".hex() + "00" * 244,  # path
    "312d31" + "00" * 29,  # busid
    "00000001",  # busnum
    "00000002",  # devnum
    "00000002",  # speed: full
    "08e6",  # idVendor
    "3437",  # idProduct
    "0100",  # bcdDevice
    "00",  # bDeviceClass
    "00",  # bDeviceSubClass
    "00",  # bDeviceProtocol
    "01",  # bConfigurationValue
    "01",  # bNumConfigurations
    "01",  # bNumInterfaces
)


def received(receiver: Receiver, *pieces: bytes) -> list[Message]:
    messages = []
    for piece in pieces:
        receiver.feed(piece)
        messages += receiver.messages()
    return messages


def test_operations() -> None:
    assert received(Receiver(), DEVLIST + IMPORT) == [DevlistRequest(), ImportRequest("1-1")]


def test_urbs_follow_an_import_in_the_same_bytes() -> None:
    receiver = Receiver()
    receiver.feed(IMPORT + URB_BYTES)
    messages: list[Message] = []
    for message in receiver.messages():
        messages.append(message)
        if isinstance(message, ImportRequest):
            receiver.imported()
    assert messages == [ImportRequest("1-1"), *URBS]


def test_a_device_is_imported_once() -> None:
    with pytest.raises(LocalProtocolError):
        Receiver(imported=True).imported()


@given(st.lists(st.integers(0, len(URB_BYTES)), max_size=8))
def test_urbs_however_they_arrive(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(URB_BYTES)]
    pieces = [URB_BYTES[a:b] for a, b in pairwise(edges)]
    assert received(Receiver(imported=True), *pieces) == URBS


def test_urbs_byte_by_byte() -> None:
    pieces = [URB_BYTES[i : i + 1] for i in range(len(URB_BYTES))]
    assert received(Receiver(imported=True), *pieces) == URBS


@pytest.mark.parametrize(
    ("imported", "data"),
    [
        pytest.param(False, wire("0100", "8005", "00000000"), id="another version"),
        pytest.param(False, wire("0111", "0005", "00000000"), id="a reply"),
        pytest.param(False, SUBMIT_OUT, id="a transfer before the import"),
        pytest.param(True, wire("00000003") + UNLINK[4:], id="a return"),
        pytest.param(True, UNLINK[:3] + b"\x01" + UNLINK[4:12] + wire("00000002") + UNLINK[16:],
                     id="no direction"),
        pytest.param(True, SUBMIT_OUT[:16] + wire("00000010") + SUBMIT_OUT[20:], id="endpoint 16"),
        pytest.param(True, SUBMIT_OUT[:24] + wire("ffffffff") + SUBMIT_OUT[28:], id="4 GiB"),
        pytest.param(True, SUBMIT_OUT[:32] + wire("00000002") + SUBMIT_OUT[36:],
                     id="isochronous"),
    ],
)  # fmt: skip
def test_what_is_refused(imported: bool, data: bytes) -> None:
    receiver = Receiver(imported)
    receiver.feed(data)
    with pytest.raises(RemoteProtocolError):
        list(receiver.messages())


@given(st.booleans(), st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(imported: bool, data: bytes) -> None:
    receiver = Receiver(imported)
    receiver.feed(data)
    with contextlib.suppress(RemoteProtocolError):
        list(receiver.messages())


def test_devlist_reply() -> None:
    assert usbip.serialize_devlist((READER,)) == wire(
        "0111",  # version
        "0005",  # OP_REP_DEVLIST
        "00000000",  # status
        "00000001",  # number of devices
        RECORD.hex(),
        "0b",  # bInterfaceClass
        "00",  # bInterfaceSubClass
        "00",  # bInterfaceProtocol
        "00",  # padding
    )


def test_import_replies() -> None:
    assert usbip.serialize_import(READER) == wire("0111", "0003", "00000000") + RECORD
    assert usbip.serialize_refusal(OpStatus.DEVICE_BUSY) == wire("0111", "0003", "00000002")


def test_submit_return() -> None:
    assert usbip.serialize_submit_return(0xD06, UrbStatus.OK, 2, b"\x12\x01") == wire(
        "00000003",  # USBIP_RET_SUBMIT
        "00000d06",  # seqnum
        "00000000",  # devid
        "00000000",  # direction
        "00000000",  # ep
        "00000000",  # status
        "00000002",  # actual_length
        "00000000",  # start_frame
        "00000000",  # number_of_packets
        "00000000",  # error_count
        "0000000000000000",  # padding
        "1201",
    )
    stalled = usbip.serialize_submit_return(1, UrbStatus.EPIPE, 0)
    assert stalled[20:24] == wire("ffffffe0")


@pytest.mark.parametrize(("cancelled", "status"), [(True, "ffffff98"), (False, "00000000")])
def test_unlink_return(cancelled: bool, status: str) -> None:
    assert usbip.serialize_unlink_return(0xD07, cancelled) == wire(
        "00000004",  # USBIP_RET_UNLINK
        "00000d07",  # seqnum of the CMD_UNLINK
        "00000000",  # devid
        "00000000",  # direction
        "00000000",  # ep
        status,
        "00" * 24,
    )
