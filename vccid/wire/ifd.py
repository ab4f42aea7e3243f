# SPDX-License-Identifier: LGPL-2.1-or-later
"""What pcscd's driver and the daemon say to each other (docs/ifd-protocol.md).

The daemon's side: the driver's bytes become messages, answers become bytes. No I/O.
Two connections for each reader: an APDU goes out and comes back on pcscd's own thread, and a
removal is heard meanwhile.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from vccid.errors import RemoteProtocolError

VERSION = 1
MAGIC = b"VCCIDIFD"
PAYLOAD_MAX = 65552  # bytes, either direction: a control code and its longest data
APDU_MAX = 65548  # bytes of a command APDU, or of a control code's data: pcscd's own limit

#: kind, status, length of the payload
HEADER = struct.Struct("!BBI")
#: magic, version, role
HELLO = struct.Struct("!8sHB")
#: whether a card is in, generation; its ATR follows
CARD = struct.Struct("!BQ")
#: generation
SEEN = struct.Struct("!Q")
#: control code; its data follow
CONTROL = struct.Struct("!I")

#: The control code with which the driver asks for the reader's serial number, ASCII: no
#: feature of PC/SC part 10, SCARD_CTL_CODE(0x7663) as pcsc-lite has it.
GET_SERIAL = 0x42007663


class Kind(IntEnum):
    """The first byte of a frame."""

    HELLO = 0x01
    CARD = 0x02
    SEEN = 0x03
    BUSY = 0x04
    POWER_ON = 0x10
    POWER_OFF = 0x11
    RESET = 0x12
    TRANSMIT = 0x13
    CONTROL = 0x14


#: Every APDU goes by this one: a plain number is found faster than an enum's member.
TRANSMIT = Kind.TRANSMIT.value


class Role(IntEnum):
    """What a connection is for."""

    EVENTS = 1
    COMMANDS = 2


class Status(IntEnum):
    """The second byte of an answer; 0 in every other frame."""

    OK = 0
    CARD_REMOVED = 1
    CARD_BUSY = 2
    NOT_SUPPORTED = 3
    FAILED = 4


@dataclass(slots=True)
class Hello:
    """The first message of a connection.

    Attributes:
        version: of the driver; the fields behind it mean what they say in version 1 only.
        role: a `Role`, where the version is ours.
    """

    version: int
    role: int


@dataclass(slots=True)
class Seen:
    """pcscd has looked at the reader since `generation` began."""

    generation: int


@dataclass(slots=True)
class PowerOn:
    """Begin a new session."""


@dataclass(slots=True)
class PowerOff:
    """End the session."""


@dataclass(slots=True)
class Reset:
    """End the session and begin a new one."""


@dataclass(slots=True)
class Transmit:
    """Run a command APDU of 1 to 65,548 bytes."""

    command: bytes


@dataclass(slots=True)
class Control:
    """What an application gave SCardControl."""

    code: int
    data: bytes


Command = PowerOn | PowerOff | Reset | Transmit | Control
Message = Hello | Seen | Command


class Receiver:
    """Makes the driver's messages out of its bytes, however they were cut.

    Its buffer has a fixed size: what a length claims is never allocated.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(HEADER.size + PAYLOAD_MAX)
        self._view = memoryview(self._buffer)
        self._begin = 0
        self._end = 0

    def room(self) -> memoryview:
        """Where the next received bytes go; never empty once `next_message` gave None."""
        if self._begin == self._end:
            self._begin = self._end = 0
            return self._view
        if self._begin:
            rest = self._buffer[self._begin : self._end]
            self._buffer[: len(rest)] = rest
            self._begin, self._end = 0, len(rest)
        return self._view[self._end :]

    def next_message(self, received: int = 0) -> Message | None:
        """Take out the next message, or None until more bytes came.

        Args:
            received: how many bytes were put into `room` since the last call.

        Raises:
            RemoteProtocolError: the connection can only be closed.
        """
        self._end += received
        begin = self._begin + HEADER.size
        if begin > self._end:
            return None
        kind, status, length = HEADER.unpack_from(self._buffer, self._begin)
        if length > PAYLOAD_MAX:
            raise RemoteProtocolError(f"a frame of {length} bytes, more than {PAYLOAD_MAX}")
        if status != 0:
            raise RemoteProtocolError(f"status {status} in a frame of the driver")
        end = begin + length
        if end > self._end:
            return None
        self._begin = end
        payload = self._view[begin:end].tobytes()
        if kind == TRANSMIT and 1 <= length <= APDU_MAX:
            return Transmit(payload)
        return _parse(kind, payload)


def _parse(kind: int, payload: bytes) -> Message:
    size = len(payload)
    if kind == Kind.POWER_ON and size == 0:
        return PowerOn()
    if kind == Kind.POWER_OFF and size == 0:
        return PowerOff()
    if kind == Kind.RESET and size == 0:
        return Reset()
    if kind == Kind.SEEN and size == SEEN.size:
        return Seen(*SEEN.unpack(payload))
    if kind == Kind.CONTROL and CONTROL.size <= size <= CONTROL.size + APDU_MAX:
        return Control(CONTROL.unpack_from(payload)[0], payload[CONTROL.size :])
    if kind == Kind.HELLO and size == HELLO.size:
        return _parse_hello(payload)
    raise RemoteProtocolError(f"a frame of kind {kind:#04x} with {size} bytes")


def _parse_hello(payload: bytes) -> Hello:
    magic, version, role = HELLO.unpack(payload)
    if magic != MAGIC:
        raise RemoteProtocolError(f"a HELLO with magic {magic!r}")
    if version == VERSION and role not in (Role.EVENTS, Role.COMMANDS):
        raise RemoteProtocolError(f"a HELLO with role {role}")
    return Hello(version, role)


def serialize_hello(role: int) -> bytes:
    """The daemon's HELLO."""
    return HEADER.pack(Kind.HELLO, Status.OK, HELLO.size) + HELLO.pack(MAGIC, VERSION, role)


def serialize_card(generation: int, atr: bytes | None) -> bytes:
    """What is in the reader: a card's ATR (2 to 33 bytes), or None."""
    payload = CARD.pack(atr is not None, generation) + (atr or b"")
    return HEADER.pack(Kind.CARD, Status.OK, len(payload)) + payload


def serialize_answer(kind: int, payload: bytes = b"") -> bytes:
    """The answer to a command of `kind` that went well."""
    return HEADER.pack(kind, 0, len(payload)) + payload


def serialize_refusal(kind: int, status: Status) -> bytes:
    """The answer to a command of `kind` that did not."""
    return HEADER.pack(kind, status, 0)


#: Sent once a second while an answer takes long.
BUSY = HEADER.pack(Kind.BUSY, Status.OK, 0)
