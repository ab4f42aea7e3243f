# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libpcsclite and pcscd say to each other: bytes <-> messages, the server's side. No I/O.

Source: pcsc-lite, winscard_msg.h, of protocol versions 4:4 (1.9) to 4:6 (2.5). Numbers are in
host order; a request has a header and its struct, an answer the same struct alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import Enum, IntEnum
from operator import attrgetter
from typing import Any, ClassVar, Final

from vccid.errors import RemoteProtocolError

MAJOR: Final = 4
OLDEST_MINOR, NEWEST_MINOR = 4, 6

#: Most bytes of an APDU or of a control code's data, either way: MAX_BUFFER_SIZE_EXTENDED.
DATA_MAX: Final = 65548
#: Bytes of an attribute: MAX_BUFFER_SIZE.
ATTRIBUTE_MAX: Final = 264
#: Bytes of a reader's name, its NUL included: MAX_READERNAME.
NAME_SIZE: Final = 128
#: Entries of the answer to READERS_STATE, where no distribution has raised it.
OLD_ENTRIES: Final = 16

#: size of the struct behind it, command
HEADER: Final = struct.Struct("=II")


class Rv(IntEnum):
    """Return codes (PCSC/pcsclite.h), as the field `rv` has them."""

    SUCCESS = 0
    F_INTERNAL_ERROR = 0x80100001
    E_CANCELLED = 0x80100002
    E_INVALID_HANDLE = 0x80100003
    E_NO_MEMORY = 0x80100006
    E_INSUFFICIENT_BUFFER = 0x80100008
    E_UNKNOWN_READER = 0x80100009
    E_SHARING_VIOLATION = 0x8010000B
    E_NO_SMARTCARD = 0x8010000C
    E_PROTO_MISMATCH = 0x8010000F
    E_INVALID_VALUE = 0x80100011
    E_NOT_TRANSACTED = 0x80100016
    E_SERVICE_STOPPED = 0x8010001E
    E_UNSUPPORTED_FEATURE = 0x8010001F
    W_UNRESPONSIVE_CARD = 0x80100066
    W_UNPOWERED_CARD = 0x80100067
    W_RESET_CARD = 0x80100068
    W_REMOVED_CARD = 0x80100069
    W_SECURITY_VIOLATION = 0x8010006A


class Share(IntEnum):
    """dwShareMode."""

    EXCLUSIVE = 1
    SHARED = 2
    DIRECT = 3


class Disposition(IntEnum):
    """dwDisposition; dwInitialization has the first three."""

    LEAVE = 0
    RESET = 1
    UNPOWER = 2
    EJECT = 3


class Protocols:
    """Bits of dwPreferredProtocols, and values of every other protocol field."""

    T0: Final = 1
    T1: Final = 2
    RAW: Final = 4
    T15: Final = 8
    ANY_OLD: Final = 0x1000  # T0 and T1, as programs of long ago say


class ReaderState:
    """Bits of READER_STATE.readerState."""

    ABSENT: Final = 0x02
    PRESENT: Final = 0x04
    POWERED: Final = 0x10
    NEGOTIABLE: Final = 0x20
    READY: Final = PRESENT | POWERED | NEGOTIABLE


@dataclass(slots=True)
class Version:
    """SCardEstablishContext begins with it."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iiI")
    major: int
    minor: int
    rv: int


@dataclass(slots=True)
class Establish:
    """SCardEstablishContext."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=III")
    scope: int
    context: int
    rv: int


@dataclass(slots=True)
class Release:
    """SCardReleaseContext."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=II")
    context: int
    rv: int


@dataclass(slots=True)
class Connect:
    """SCardConnect; `reader` is a name padded with NUL."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=I128sIIiII")
    context: int
    reader: bytes
    mode: int
    protocols: int
    handle: int
    protocol: int
    rv: int

    @property
    def name(self) -> bytes:
        """The reader's name, UTF-8."""
        return self.reader.partition(b"\0")[0]


@dataclass(slots=True)
class Reconnect:
    """SCardReconnect."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iIIIII")
    handle: int
    mode: int
    protocols: int
    initialization: int
    protocol: int
    rv: int


@dataclass(slots=True)
class Disconnect:
    """SCardDisconnect."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iII")
    handle: int
    disposition: int
    rv: int


@dataclass(slots=True)
class Begin:
    """SCardBeginTransaction."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iI")
    handle: int
    rv: int


@dataclass(slots=True)
class End:
    """SCardEndTransaction."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iII")
    handle: int
    disposition: int
    rv: int


@dataclass(slots=True)
class Transmit:
    """SCardTransmit; `size` bytes of `data` follow the request, `room` bytes at most the answer."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iIIIIIII")
    handle: int
    send_protocol: int
    send_length: int
    size: int
    receive_protocol: int
    receive_length: int
    room: int
    rv: int
    data: bytes = b""


@dataclass(slots=True)
class Control:
    """SCardControl; data as `Transmit` has them, and how many come back is in `returned`."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iIIIII")
    handle: int
    code: int
    size: int
    room: int
    returned: int
    rv: int
    data: bytes = b""


@dataclass(slots=True)
class Status:
    """SCardStatus, which has asked for the readers' states before."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iI")
    handle: int
    rv: int


@dataclass(slots=True)
class Cancel:
    """SCardCancel, on a connection of its own."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=II")
    context: int
    rv: int


@dataclass(slots=True)
class GetAttribute:
    """SCardGetAttrib; `room` is always `ATTRIBUTE_MAX`, whatever the program has."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iI264sII")
    handle: int
    attribute: int
    value: bytes
    room: int
    rv: int


@dataclass(slots=True)
class SetAttribute:
    """SCardSetAttrib."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("=iI264sII")
    handle: int
    attribute: int
    value: bytes
    size: int
    rv: int


class Query(Enum):
    """Requests without a struct; their value is the command.

    READERS_STATE: all entries, of a number compiled in; 4:4 and 4:5.
    WAIT: tell of the next change; before 4:6 with an answer as READERS_STATE.
    STOP: do not, any more.
    READER_EVENTS: how often readers came and went; since 4:5.
    STATES_SIZE, STATES_ARRAY: the number of entries, and the entries; since 4:6.
    """

    READERS_STATE = 0x12
    WAIT = 0x13
    STOP = 0x14
    READER_EVENTS = 0x15
    STATES_SIZE = 0x16
    STATES_ARRAY = 0x17


#: Those that name a handle.
CardRequest = (
    Reconnect | Disconnect | Begin | End | Transmit | Control | Status | GetAttribute | SetAttribute
)
Request = Version | Establish | Release | Connect | Cancel | CardRequest
Message = Request | Query

_STRUCTS: Final[dict[int, type[Request]]] = {
    0x01: Establish,
    0x02: Release,
    0x04: Connect,
    0x05: Reconnect,
    0x06: Disconnect,
    0x07: Begin,
    0x08: End,
    0x09: Transmit,
    0x0A: Control,
    0x0B: Status,
    0x0D: Cancel,
    0x0F: GetAttribute,
    0x10: SetAttribute,
    0x11: Version,
}
_QUERIES: Final = {query.value: query for query in Query}

#: Every APDU goes by these: plain numbers, and a bound method, are found fastest.
_TRANSMIT: Final = 0x09
_HEADER_SIZE: Final = HEADER.size
_TRANSMIT_HEADER: Final = HEADER.pack(Transmit.LAYOUT.size, _TRANSMIT)
_SIZE_OF_DATA: Final = struct.Struct("=I")
_TRANSMIT_DATA: Final = HEADER.size + Transmit.LAYOUT.size
_pack_transmit: Final = Transmit.LAYOUT.pack


class Parser:
    """Makes a client's messages out of its bytes, however they were cut.

    It holds no more than one request's bytes and what came behind: see `held`.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def held(self) -> int:
        """Bytes not yet taken out as a message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def next_message(self) -> Message | None:
        """Take out the next message, or None until more bytes came.

        Raises:
            RemoteProtocolError: the connection can only be closed.
        """
        buffer = self._buffer
        held = len(buffer)
        if held < _HEADER_SIZE:
            return None
        size, command = HEADER.unpack_from(buffer)
        layout = _STRUCTS.get(command)
        if layout is None:
            return self._query(command)
        end = _HEADER_SIZE + layout.LAYOUT.size
        if size != layout.LAYOUT.size:
            raise RemoteProtocolError(f"command {command:#x} with a struct of {size} bytes")
        if held < end:
            return None
        message = layout(*layout.LAYOUT.unpack_from(buffer, _HEADER_SIZE))
        if isinstance(message, Transmit | Control):
            # Data belong to the request, whatever comes of it; `size` does not count them.
            begin, end = end, end + message.size
            if message.size > DATA_MAX:
                raise RemoteProtocolError(f"{message.size} bytes of data, more than {DATA_MAX}")
            if held < end:
                return None
            message.data = bytes(buffer[begin:end])
        elif isinstance(message, GetAttribute | SetAttribute):
            claimed = message.room if isinstance(message, GetAttribute) else message.size
            if claimed > ATTRIBUTE_MAX:
                raise RemoteProtocolError(f"an attribute of {claimed} bytes")
        del buffer[:end]
        return message

    def _query(self, command: int) -> Query:
        query = _QUERIES.get(command)
        if query is None:
            raise RemoteProtocolError(f"command {command:#x} is none")
        # As pcscd, whatever size it claims: what follows is read as the next header.
        del self._buffer[:_HEADER_SIZE]
        return query


def parse_transmit(data: bytes) -> Transmit | None:
    """`data` as exactly one whole TRANSMIT, which is what comes most; None for all else."""
    if len(data) < _TRANSMIT_DATA or data[4] != _TRANSMIT:
        return None
    if data[:_HEADER_SIZE] != _TRANSMIT_HEADER:
        return None
    message = Transmit(*Transmit.LAYOUT.unpack_from(data, _HEADER_SIZE))
    if len(data) != _TRANSMIT_DATA + message.size or message.size > DATA_MAX:
        return None
    message.data = data[_TRANSMIT_DATA:]
    return message


def more_of_transmit(data: bytes) -> int:
    """How many bytes are missing of the TRANSMIT that `data` begin; 0 where they begin none."""
    held = len(data)
    if held < _HEADER_SIZE or data[4] != _TRANSMIT or data[:_HEADER_SIZE] != _TRANSMIT_HEADER:
        return 0
    if held < _TRANSMIT_DATA:
        return _TRANSMIT_DATA - held
    (size,) = _SIZE_OF_DATA.unpack_from(data, _HEADER_SIZE + 12)
    missing: int = _TRANSMIT_DATA + size - held
    return max(0, missing) if size <= DATA_MAX else 0


def _getter(layout: type[Request]) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in fields(layout) if field.name != "data"))


_FIELDS: Final = {layout: _getter(layout) for layout in _STRUCTS.values()}


def serialize(message: Request) -> bytes:
    """An answer: the request's own struct with what was changed in it, and the data of it."""
    head: bytes = message.LAYOUT.pack(*_FIELDS[type(message)](message))
    data: bytes = message.data if isinstance(message, Transmit | Control) else b""
    return head + data


def serialize_transmit(message: Transmit, answer: bytes) -> bytes:
    """The answer to a TRANSMIT that went well; longer than `room`, its length alone is told."""
    size = len(answer)
    fits = size <= message.room
    head = _pack_transmit(
        message.handle,
        message.send_protocol,
        message.send_length,
        message.size,
        message.receive_protocol,
        message.receive_length,
        size,
        0 if fits else Rv.E_INSUFFICIENT_BUFFER,
    )
    return head + answer if fits else head


def serialize_request(message: Message) -> bytes:
    """A client's request."""
    if isinstance(message, Query):
        return HEADER.pack(0, message.value)
    command = next(number for number, layout in _STRUCTS.items() if isinstance(message, layout))
    return HEADER.pack(message.LAYOUT.size, command) + serialize(message)


#: timeOut or readerEvents, rv
_PAIR: Final = struct.Struct("=II")
_NUMBER: Final = struct.Struct("=i")


def serialize_signal(reader_events: int, rv: Rv) -> bytes:
    """The end of a WAIT, or the answer to STOP, or to READER_EVENTS: all have one shape.

    A client may read the one for the other; with the count of events in each this is harmless.
    """
    return _PAIR.pack(reader_events, rv)


def serialize_size(size: int) -> bytes:
    """The answer to STATES_SIZE: how many entries STATES_ARRAY has."""
    return _NUMBER.pack(size)


#: readerName, eventCounter, readerState, readerSharing, cardAtr, cardAtrLength, cardProtocol
_ENTRY: Final = struct.Struct("=128sIIi33s3xII")
ENTRY_SIZE: Final = _ENTRY.size


@dataclass(frozen=True, slots=True)
class Entry:
    """READER_STATE: one reader as every program sees it.

    Attributes:
        name: UTF-8, at most 127 bytes.
        counter: 1 to 0xFFFF; a client never compares 0.
        state: bits of `ReaderState`.
        sharing: -1 exclusive, else how many handles there are.
        atr: 0 to 33 bytes; empty where no card is.
        protocol: of `Protocols`, 0 where none is chosen.
    """

    name: bytes
    counter: int
    state: int
    sharing: int
    atr: bytes
    protocol: int

    def serialize(self) -> bytes:
        """184 bytes."""
        atr = self.atr
        packed: bytes = _ENTRY.pack(
            self.name, self.counter, self.state, self.sharing, atr, len(atr), self.protocol
        )
        return packed

    @classmethod
    def parse(cls, data: bytes) -> Entry:
        """What a client reads."""
        name, counter, state, sharing, atr, length, protocol = _ENTRY.unpack(data)
        return cls(name.rstrip(b"\0"), counter, state, sharing, atr[:length], protocol)


def serialize_entries(entries: Iterable[bytes], number: int) -> bytes:
    """The array of reader states: `number` entries, those behind the last reader free."""
    there = list(entries)[:number]
    return b"".join(there).ljust(number * ENTRY_SIZE, b"\0")
