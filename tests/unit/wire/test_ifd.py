# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver's bytes, however they are cut; the daemon's bytes, field by field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import RemoteProtocolError
from vccid.wire import ifd

HELLO = (
    b"\x01"  # kind: HELLO
    b"\x00"  # status
    b"\x00\x00\x00\x0b"  # length
    b"VCCIDIFD"  # magic
    b"\x00\x01"  # version
    b"\x02"  # role: COMMANDS
)
SEEN = (
    b"\x03"  # kind: SEEN
    b"\x00"  # status
    b"\x00\x00\x00\x08"  # length
    b"\x00\x00\x00\x00\x00\x01\x00\x02"  # generation
)
POWER_ON = b"\x10\x00\x00\x00\x00\x00"
POWER_OFF = b"\x11\x00\x00\x00\x00\x00"
RESET = b"\x12\x00\x00\x00\x00\x00"
TRANSMIT = (
    b"\x13"  # kind: TRANSMIT
    b"\x00"  # status
    b"\x00\x00\x00\x04"  # length
    b"\x00\xb0\x00\x00"  # command APDU
)
CONTROL = (
    b"\x14"  # kind: CONTROL
    b"\x00"  # status
    b"\x00\x00\x00\x06"  # length
    b"\x42\x33\x00\x06"  # control code
    b"\xaa\xbb"  # data
)

MESSAGES = {
    HELLO: ifd.Hello(1, ifd.Role.COMMANDS),
    SEEN: ifd.Seen(0x10002),
    POWER_ON: ifd.PowerOn(),
    POWER_OFF: ifd.PowerOff(),
    RESET: ifd.Reset(),
    TRANSMIT: ifd.Transmit(b"\x00\xb0\x00\x00"),
    CONTROL: ifd.Control(0x42330006, b"\xaa\xbb"),
}


def frame(kind: int, payload: bytes = b"", status: int = 0) -> bytes:
    return bytes([kind, status]) + len(payload).to_bytes(4, "big") + payload


def feed(receiver: ifd.Receiver, data: bytes) -> list[ifd.Message]:
    """What `data` completes, put in as the room allows."""
    messages = []
    while data:
        room = receiver.room()
        assert len(room) > 0
        count = min(len(room), len(data))
        room[:count] = data[:count]
        data = data[count:]
        message = receiver.next_message(count)
        while message is not None:
            messages.append(message)
            message = receiver.next_message()
    return messages


@pytest.mark.parametrize(("data", "message"), MESSAGES.items())
def test_each_message_whole_and_byte_by_byte(data: bytes, message: ifd.Message) -> None:
    assert feed(ifd.Receiver(), data) == [message]
    receiver = ifd.Receiver()
    for byte in data[:-1]:
        assert feed(receiver, bytes([byte])) == []
    assert feed(receiver, data[-1:] + data[:3]) == [message]
    assert feed(receiver, data[3:]) == [message]


@given(st.data())
def test_a_stream_of_messages_however_it_is_cut(data: st.DataObject) -> None:
    frames = data.draw(st.lists(st.sampled_from(sorted(MESSAGES)), max_size=20))
    stream = b"".join(frames)
    receiver = ifd.Receiver()
    messages = []
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        messages += feed(receiver, stream[:count])
        stream = stream[count:]
    assert messages == [MESSAGES[each] for each in frames]


def test_the_longest_messages_one_behind_the_other() -> None:
    command = bytes(range(251)) * 262
    longest = frame(0x13, command[:65548])
    control = frame(0x14, b"\x00\x00\x00\x01" + command[:65548])
    assert (
        feed(ifd.Receiver(), (longest + control) * 2)
        == [
            ifd.Transmit(command[:65548]),
            ifd.Control(1, command[:65548]),
        ]
        * 2
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(data: bytes) -> None:
    try:
        messages = feed(ifd.Receiver(), data)
    except RemoteProtocolError:
        return
    assert len(messages) <= len(data) // ifd.HEADER.size


WRONG = {
    "a 4 GiB length": b"\x13\x00\xff\xff\xff\xff",
    "a length of one too many": b"\x13\x00\x00\x01\x00\x11",
    "an APDU too long": frame(0x13, bytes(65549)),
    "an empty APDU": frame(0x13),
    "an unknown kind": frame(0x7F),
    "kind 0": frame(0),
    "the daemon's CARD": frame(0x02, bytes(9)),
    "the daemon's BUSY": frame(0x04),
    "a status": frame(0x10, status=1),
    "a payload where none belongs": frame(0x10, b"\x00"),
    "half a generation": frame(0x03, bytes(4)),
    "a control code of three bytes": frame(0x14, bytes(3)),
    "a short HELLO": frame(0x01, b"VCCIDIFD\x00\x01"),
    "another magic": HELLO.replace(b"VCCID", b"VPCD."),
    "another role": HELLO[:-1] + b"\x03",
    "text": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_what_no_driver_of_ours_sends_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        feed(ifd.Receiver(), data)
    with pytest.raises(RemoteProtocolError):
        feed(ifd.Receiver(), SEEN + data)


def test_a_hello_of_another_version_is_told_whatever_its_role() -> None:
    assert feed(ifd.Receiver(), HELLO[:-3] + b"\x00\x02\x09") == [ifd.Hello(2, 9)]


def test_what_the_daemon_sends() -> None:
    assert ifd.serialize_hello(ifd.Role.COMMANDS) == HELLO
    assert (
        ifd.serialize_card(0x10002, b"\x3b\x00")
        == (
            b"\x02"  # kind: CARD
            b"\x00"  # status
            b"\x00\x00\x00\x0b"  # length
            b"\x01"  # flag: present
            b"\x00\x00\x00\x00\x00\x01\x00\x02"  # generation
            b"\x3b\x00"  # ATR
        )
    )
    assert (
        ifd.serialize_card(3, None)
        == (
            b"\x02"  # kind: CARD
            b"\x00"  # status
            b"\x00\x00\x00\x09"  # length
            b"\x00"  # flag: empty
            b"\x00\x00\x00\x00\x00\x00\x00\x03"  # generation
        )
    )
    assert (
        ifd.serialize_answer(ifd.TRANSMIT, b"\x90\x00")
        == (
            b"\x13"  # kind: TRANSMIT
            b"\x00"  # status: OK
            b"\x00\x00\x00\x02"  # length
            b"\x90\x00"
        )
    )
    assert (
        ifd.serialize_refusal(ifd.Kind.RESET, ifd.Status.CARD_BUSY)
        == (
            b"\x12"  # kind: RESET
            b"\x02"  # status: CARD_BUSY
            b"\x00\x00\x00\x00"  # length
        )
    )
    assert ifd.BUSY == b"\x04\x00\x00\x00\x00\x00"
