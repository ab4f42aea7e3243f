# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VSC protocol: a smart card carried over a byte stream to a reader elsewhere.

QEMU's ccid-card-passthru and libcacard's vscclient speak it; libcacard's
vscard_common.h is its only specification, and the names here are that header's.
The *client* has the card, the *host* has the reader. All integers are big-endian.

    type u32 | reader_id u32 | length u32, header not counted | length bytes

There is no message for power, reset or parameters: the client tells the ATR once.
VSC_Error both acknowledges (code 0) and refuses; order alone ties it to a request.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from vccid.errors import RemoteProtocolError

#: Version word: major << 21 | middle << 10 | minor; 0.0.2 is the only one there is.
VERSION = 2
#: The host's Init and a refused ReaderAdd belong to no reader.
UNDEFINED_READER_ID = 0xFFFFFFFF
#: What a client puts in its messages before it was given an id; the first id there is.
MINIMAL_READER_ID = 0

# VSCErrorCode
SUCCESS = 0
GENERAL_ERROR = 1
CANNOT_ADD_MORE_READERS = 2
CARD_ALREADY_INSERTED = 3

_MAGIC = b"VSCD"
_HEADER = struct.Struct(">III")  # VSCMsgHeader: type, reader_id, length
_INIT = struct.Struct(">4sI")  # VSCMsgInit: magic, version; capability words follow
_WORD = struct.Struct(">I")
#: An extended command APDU, the longest payload there is: 4 + 3 + 65,535 + 2 bytes.
MAX_PAYLOAD = 65_544


@dataclass(frozen=True, slots=True)
class Init:
    """VSC_Init: the first message of either side."""

    TYPE: ClassVar[int] = 1
    reader_id: int
    version: int = VERSION
    capabilities: tuple[int, ...] = (0,)

    @property
    def payload(self) -> bytes:
        words = b"".join(_WORD.pack(word) for word in self.capabilities)
        return _INIT.pack(_MAGIC, self.version) + words


@dataclass(frozen=True, slots=True)
class Error:
    """VSC_Error: how the last request went."""

    TYPE: ClassVar[int] = 2
    reader_id: int
    code: int

    @property
    def payload(self) -> bytes:
        return _WORD.pack(self.code)


@dataclass(frozen=True, slots=True)
class ReaderAdd:
    """VSC_ReaderAdd: the client has a reader; UTF-8 name, at most 255 bytes are kept."""

    TYPE: ClassVar[int] = 3
    reader_id: int
    name: str

    @property
    def payload(self) -> bytes:
        return self.name.encode()


@dataclass(frozen=True, slots=True)
class _Empty:
    reader_id: int

    @property
    def payload(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class ReaderRemove(_Empty):
    """VSC_ReaderRemove: the client's reader is gone."""

    TYPE: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class Atr:
    """VSC_ATR: a card came in or was reset. The bytes are as they came, of any length."""

    TYPE: ClassVar[int] = 5
    reader_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class CardRemove(_Empty):
    """VSC_CardRemove: the card left."""

    TYPE: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class Apdu:
    """VSC_APDU: a command from the host, a response from the client."""

    TYPE: ClassVar[int] = 7
    reader_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Flush(_Empty):
    """VSC_Flush: the host wants every outstanding answer."""

    TYPE: ClassVar[int] = 8


@dataclass(frozen=True, slots=True)
class FlushComplete(_Empty):
    """VSC_FlushComplete: the client has none outstanding."""

    TYPE: ClassVar[int] = 9


@dataclass(frozen=True, slots=True)
class Unknown:
    """A type the header does not define; a host answers Error(1) and goes on."""

    type: int
    reader_id: int
    payload: bytes


Message = Init | Error | ReaderAdd | ReaderRemove | Atr | CardRemove | Apdu | Flush | FlushComplete


def serialize(message: Message) -> bytes:
    """One whole message."""
    payload = message.payload
    return _HEADER.pack(message.TYPE, message.reader_id, len(payload)) + payload


class Parser:
    """Bytes as they come in, messages as they become whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message | Unknown]:
        """Take bytes and give each message they complete.

        Raises:
            RemoteProtocolError: a length, the magic or the version is wrong; the stream
                cannot be followed any further.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _HEADER.size:
            type_, reader_id, length = _HEADER.unpack_from(buffer)
            if length > MAX_PAYLOAD:
                raise RemoteProtocolError(f"VSC message of {length} bytes, type {type_}")
            end = _HEADER.size + length
            if len(buffer) < end:
                return
            payload = bytes(buffer[_HEADER.size : end])
            del buffer[:end]
            yield _parse(type_, reader_id, payload)


def _parse(type_: int, reader_id: int, payload: bytes) -> Message | Unknown:
    if type_ == Apdu.TYPE:
        return Apdu(reader_id, payload)
    if type_ == Atr.TYPE:
        return Atr(reader_id, payload)
    if type_ == Init.TYPE:
        return _parse_init(reader_id, payload)
    if type_ == Error.TYPE:
        if len(payload) != _WORD.size:
            raise RemoteProtocolError(f"VSC_Error of {len(payload)} bytes, not {_WORD.size}")
        return Error(reader_id, _WORD.unpack(payload)[0])
    if type_ == ReaderAdd.TYPE:
        # The C client counts its terminator in; the header demands none.
        return ReaderAdd(reader_id, payload[:255].decode(errors="replace").rstrip("\0"))
    for kind in (ReaderRemove, CardRemove, Flush, FlushComplete):
        if type_ == kind.TYPE:
            return kind(reader_id)
    return Unknown(type_, reader_id, payload)


def _parse_init(reader_id: int, payload: bytes) -> Init:
    if len(payload) < _INIT.size + _WORD.size or len(payload) % _WORD.size:
        raise RemoteProtocolError(f"VSC_Init of {len(payload)} bytes")
    magic, version = _INIT.unpack_from(payload)
    if magic != _MAGIC:
        raise RemoteProtocolError(f"VSC_Init with magic {magic.hex()}, not {_MAGIC.hex()}")
    if version >> 21:
        raise RemoteProtocolError(f"VSC version {version >> 21}, not 0")
    words = tuple(word for (word,) in _WORD.iter_unpack(payload[_INIT.size :]))
    return Init(reader_id, version, words)
