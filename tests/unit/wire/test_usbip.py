# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB/IP 1.1.1 against the kernel's document, one field a line."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import LocalProtocolError, RemoteProtocolError
from vccid.wire import usbip

DEVLIST = bytes.fromhex("0111" "8005" "00000000")
IMPORT = bytes.fromhex("0111" "8003" "00000000") + b"1-1".ljust(32, b"\0")

SUBMIT_OUT = bytes.fromhex(
    "00000001"  # command: CMD_SUBMIT
    "00000007"  # seqnum
    "00010001"  # devid
    "00000000"  # direction: OUT
    "00000001"  # ep
    "00000000"  # transfer_flags
    "0000000A"  # transfer_buffer_length
    "00000000"  # start_frame
    "00000000"  # number_of_packets
    "00000000"  # interval
    "0000000000000000"  # setup
    "65000000000001000000"
)
SUBMIT_IN = bytes.fromhex(
    "00000001"  # command: CMD_SUBMIT
    "00000008"  # seqnum
    "00010001"  # devid
    "00000001"  # direction: IN
    "00000000"  # ep
    "00000200"  # transfer_flags: URB_DIR_IN
    "00000012"  # transfer_buffer_length
    "00000000"  # start_frame
    "FFFFFFFF"  # number_of_packets, as the document has it
    "00000000"  # interval
    "8006000100001200"  # setup, as on USB
)
UNLINK = bytes.fromhex(
    "00000002"  # command: CMD_UNLINK
    "00000009"  # seqnum
    "00010001"  # devid
    "00000000"  # direction
    "00000000"  # ep
    "00000007"  # seqnum of the submit
    "000000000000000000000000000000000000000000000000"
)
STREAM = SUBMIT_OUT + SUBMIT_IN + UNLINK
MESSAGES = [
    usbip.Submit(7, False, 1, 10, bytes(8), bytes.fromhex("65000000000001000000")),
    usbip.Submit(8, True, 0, 18, bytes.fromhex("8006000100001200")),
    usbip.Unlink(9, 7),
]

RECORD = usbip.DeviceRecord(
    path="/vccid/office", busid="1-1", busnum=1, devnum=1, speed=2, vendor_id=0x0E0F,
    product_id=0x0004, release=0x0100, interfaces=((11, 0, 0),),
)  # fmt: skip
RECORD_WIRE = (
    b"/vccid/office".ljust(256, b"\0")  # path
    + b"1-1".ljust(32, b"\0")  # busid
    + bytes.fromhex(
        "00000001"  # busnum
        "00000001"  # devnum
        "00000002"  # speed: full
        "0E0F"  # idVendor
        "0004"  # idProduct
        "0100"  # bcdDevice
        "00"  # bDeviceClass
        "00"  # bDeviceSubClass
        "00"  # bDeviceProtocol
        "01"  # bConfigurationValue
        "01"  # bNumConfigurations
        "01"  # bNumInterfaces
    )
)


def test_devlist() -> None:
    assert usbip.Receiver().feed_op(DEVLIST) == usbip.RequestDevlist()
    assert (
        usbip.reply_devlist((RECORD,))
        == (
            bytes.fromhex(
                "0111"  # version
                "0005"  # OP_REP_DEVLIST
                "00000000"  # status
                "00000001"  # number of devices
            )
            + RECORD_WIRE
            + bytes.fromhex("0B" "00" "00" "00")  # the interface, padded
        )
    )
    assert usbip.reply_devlist(()) == bytes.fromhex("0111" "0005" "00000000" "00000000")


def test_import() -> None:
    assert usbip.Receiver().feed_op(IMPORT) == usbip.RequestImport("1-1")
    granted = usbip.reply_import(RECORD)
    assert granted == bytes.fromhex("0111" "0003" "00000000") + RECORD_WIRE
    assert len(granted) == 320
    assert usbip.refuse_import(usbip.OpStatus.DEVICE_BUSY) == bytes.fromhex(
        "0111" "0003" "00000002"
    )


@pytest.mark.parametrize("raw", [DEVLIST, IMPORT])
def test_a_request_byte_by_byte(raw: bytes) -> None:
    receiver = usbip.Receiver()
    answers = [receiver.feed_op(raw[at : at + 1]) for at in range(len(raw))]
    assert answers[:-1] == [None] * (len(raw) - 1)
    assert answers[-1] is not None


@pytest.mark.parametrize(
    "raw",
    [
        bytes.fromhex("0110" "8005" "00000000"),  # version 1.1.0
        bytes.fromhex("0111" "8004" "00000000"),
        bytes.fromhex("0111" "0005" "00000000"),  # a reply
        SUBMIT_IN,  # no import before
        bytes.fromhex("0111" "8003" "00000000") + b"\xff".ljust(32, b"\0"),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_no_request(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        usbip.Receiver().feed_op(raw)


def test_a_second_request_before_the_answer() -> None:
    receiver = usbip.Receiver()
    receiver.feed_op(IMPORT)
    with pytest.raises(RemoteProtocolError):
        receiver.feed_op(DEVLIST)


def test_urbs_that_come_with_the_import() -> None:
    receiver = usbip.Receiver()
    assert receiver.feed_op(IMPORT + SUBMIT_IN) == usbip.RequestImport("1-1")
    assert receiver.begin_urbs() == [MESSAGES[1]]
    with pytest.raises(LocalProtocolError):
        usbip.Receiver().begin_urbs()


def test_urbs_whole_and_byte_by_byte() -> None:
    assert usbip.Receiver(imported=True).feed(STREAM) == MESSAGES
    receiver = usbip.Receiver(imported=True)
    got = [message for at in range(len(STREAM)) for message in receiver.feed(STREAM[at : at + 1])]
    assert got == MESSAGES
    assert not receiver.partial
    receiver.feed(b"\0")
    assert receiver.partial


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_urbs_cut_anywhere(cuts: list[int]) -> None:
    receiver = usbip.Receiver(imported=True)
    got, edges = [], [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(edges):
        got += receiver.feed(STREAM[start:end])
    assert got == MESSAGES


def changed(at: int, value: str, raw: bytes = SUBMIT_OUT) -> bytes:
    field = bytes.fromhex(value)
    return raw[:at] + field + raw[at + len(field) :]


@pytest.mark.parametrize(
    "raw",
    [
        changed(0x00, "00000003"),  # a reply
        changed(0x00, "01110000"),  # an OP message
        changed(0x0C, "00000002"),  # direction
        changed(0x10, "00000010"),  # endpoint 16
        changed(0x10, "00000081"),  # with the direction bit
        changed(0x18, "FFFFFFFF"),  # 4 GiB
        changed(0x18, "00100001"),
        changed(0x20, "00000401"),  # isochronous packets
    ],
)
def test_no_urb(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        usbip.Receiver(imported=True).feed(raw)


def test_isochronous_is_marked_and_its_descriptors_are_skipped() -> None:
    raw = changed(0x20, "00000002") + bytes(32)
    (message, following) = usbip.Receiver(imported=True).feed(raw + UNLINK)
    assert isinstance(message, usbip.Submit)
    assert message.isochronous
    assert following == MESSAGES[2]


def test_replies() -> None:
    assert (
        usbip.reply_submit(8, usbip.UrbStatus.OK, 2, b"\x50\x03")
        == bytes.fromhex(
            "00000003"  # command: RET_SUBMIT
            "00000008"  # seqnum
            "00000000"  # devid
            "00000000"  # direction
            "00000000"  # ep
            "00000000"  # status
            "00000002"  # actual_length
            "00000000"  # start_frame
            "00000000"  # number_of_packets
            "00000000"  # error_count
            "0000000000000000"  # padding
            "5003"
        )
    )
    stalled = usbip.reply_submit(8, usbip.UrbStatus.STALL, 0)
    assert stalled[0x14:0x18] == bytes.fromhex("FFFFFFE0")
    assert len(stalled) == 48
    unlinked = usbip.reply_unlink(9, usbip.UrbStatus.UNLINKED)
    assert unlinked[:8] == bytes.fromhex("00000004" "00000009")
    assert unlinked[0x14:0x18] == bytes.fromhex("FFFFFF98")
    assert len(unlinked) == 48


def test_data_are_not_shown() -> None:
    assert "123456" not in repr(usbip.Submit(1, False, 1, 6, bytes(8), b"123456"))


@given(st.binary(max_size=400))
def test_any_bytes(raw: bytes) -> None:
    for feed in (usbip.Receiver().feed_op, usbip.Receiver(imported=True).feed):
        try:
            feed(raw)
        except RemoteProtocolError:
            continue
