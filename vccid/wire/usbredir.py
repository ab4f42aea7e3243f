# SPDX-License-Identifier: LGPL-2.1-or-later
"""usbredir protocol 0.7, the side that has the device (usbredir: docs/usb-redirection-protocol.md).

Everything is little-endian and packed. The document's *usb-host* has the device, its
*usb-guest* (QEMU's usb-redir) uses it; neither word says who listens. A message is

    type u32 | length u32, header not counted | id u32, or u64 if both can | length bytes

and begins with a header of its type's own. What changes layouts is agreed in hello.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import ClassVar, Final

from vccid.errors import LocalProtocolError, RemoteProtocolError

#: The most data of one packet that is taken, in bytes: a CCID message has 65,554 at most.
MAX_DATA: Final = 1 << 20


class Capability(IntFlag):
    """Bits of hello; one counts only if both sides have it."""

    BULK_STREAMS = 0x01
    CONNECT_DEVICE_VERSION = 0x02
    FILTER = 0x04
    DEVICE_DISCONNECT_ACK = 0x08
    EP_INFO_MAX_PACKET_SIZE = 0x10
    IDS_64BITS = 0x20
    BULK_LENGTH_32BITS = 0x40
    BULK_RECEIVING = 0x80


#: Ours: all but streams and bulk receiving, which no CCID reader has a use for.
OURS: Final = Capability(0x7E)
#: Without these QEMU takes no device at an xHCI port.
XHCI: Final = (
    Capability.EP_INFO_MAX_PACKET_SIZE | Capability.IDS_64BITS | Capability.BULK_LENGTH_32BITS
)


class Type(IntEnum):
    """Message types."""

    HELLO = 0
    DEVICE_CONNECT = 1
    DEVICE_DISCONNECT = 2
    RESET = 3
    INTERFACE_INFO = 4
    EP_INFO = 5
    SET_CONFIGURATION = 6
    GET_CONFIGURATION = 7
    CONFIGURATION_STATUS = 8
    SET_ALT_SETTING = 9
    GET_ALT_SETTING = 10
    ALT_SETTING_STATUS = 11
    START_ISO_STREAM = 12
    STOP_ISO_STREAM = 13
    ISO_STREAM_STATUS = 14
    START_INTERRUPT_RECEIVING = 15
    STOP_INTERRUPT_RECEIVING = 16
    INTERRUPT_RECEIVING_STATUS = 17
    CANCEL_DATA_PACKET = 21
    FILTER_REJECT = 22
    FILTER_FILTER = 23
    DEVICE_DISCONNECT_ACK = 24
    CONTROL_PACKET = 100
    BULK_PACKET = 101
    INTERRUPT_PACKET = 103


class Status(IntEnum):
    """How a request ended."""

    SUCCESS = 0
    CANCELLED = 1
    INVAL = 2
    IOERROR = 3
    STALL = 4
    TIMEOUT = 5
    BABBLE = 6


class Speed(IntEnum):
    """usb_redir_speed_*; not USB/IP's numbers."""

    LOW = 0
    FULL = 1
    HIGH = 2
    SUPER = 3


class EndpointType(IntEnum):
    """bmAttributes' transfer type; INVALID where there is no such endpoint."""

    CONTROL = 0
    ISO = 1
    BULK = 2
    INTERRUPT = 3
    INVALID = 255


_HEADER_32: Final = struct.Struct("<III")  # type, length, id
_HEADER_64: Final = struct.Struct("<IIQ")
_HELLO: Final = struct.Struct("<64sI")  # version, capabilities[0]
_CONNECT: Final = struct.Struct("<BBBBHH")
#: speed, device_class, device_subclass, device_protocol, vendor_id, product_id;
#: with CONNECT_DEVICE_VERSION also device_version_bcd, u16
_U16: Final = struct.Struct("<H")
#: endpoint, request, requesttype, status, value, index, length
_CONTROL: Final = struct.Struct("<BBBBHHH")
#: endpoint, status, length, stream_id; with BULK_LENGTH_32BITS also length_high, u16
_BULK: Final = struct.Struct("<BBHI")
_INTERRUPT: Final = struct.Struct("<BBH")  # endpoint, status, length


@dataclass(frozen=True, slots=True)
class Hello:
    """hello: who the peer is and what it can."""

    version: str
    capabilities: Capability


@dataclass(frozen=True, slots=True)
class Request:
    """What usb-guest asks for without data.

    Attributes:
        values: the u8 fields of its header: configuration; interface, alt; interface; or
            endpoint.
    """

    type: Type
    id: int
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """filter_filter: which devices usb-guest takes."""

    rules: str


@dataclass(frozen=True, slots=True)
class ControlPacket:
    """control_packet. As a request, `data` is OUT data; `status` means nothing there."""

    TYPE: ClassVar[Type] = Type.CONTROL_PACKET
    id: int
    endpoint: int
    request: int
    request_type: int
    value: int
    index: int
    length: int
    data: bytes = field(default=b"", repr=False)
    status: Status = Status.SUCCESS

    @property
    def is_in(self) -> bool:
        return bool(self.request_type & 0x80)


@dataclass(frozen=True, slots=True)
class BulkPacket:
    """bulk_packet; `endpoint` with its direction bit."""

    TYPE: ClassVar[Type] = Type.BULK_PACKET
    id: int
    endpoint: int
    length: int
    data: bytes = field(default=b"", repr=False)
    status: Status = Status.SUCCESS
    stream_id: int = 0

    @property
    def is_in(self) -> bool:
        return bool(self.endpoint & 0x80)


@dataclass(frozen=True, slots=True)
class InterruptPacket:
    """interrupt_packet: OUT with data from usb-guest, IN unasked from usb-host."""

    TYPE: ClassVar[Type] = Type.INTERRUPT_PACKET
    id: int
    endpoint: int
    length: int
    data: bytes = field(default=b"", repr=False)
    status: Status = Status.SUCCESS

    @property
    def is_in(self) -> bool:
        return bool(self.endpoint & 0x80)


DataPacket = ControlPacket | BulkPacket | InterruptPacket
Message = Hello | Request | Filter | DataPacket


@dataclass(frozen=True, slots=True)
class EndpointInfo:
    """One endpoint of ep_info; `interval` is bInterval, 1 or more for an interrupt endpoint."""

    type: EndpointType
    interval: int
    interface: int
    max_packet_size: int


#: Request type -> how many u8 values it has.
_REQUESTS: Final = {
    Type.RESET: 0,
    Type.SET_CONFIGURATION: 1,
    Type.GET_CONFIGURATION: 0,
    Type.SET_ALT_SETTING: 2,
    Type.GET_ALT_SETTING: 1,
    Type.START_ISO_STREAM: 3,
    Type.STOP_ISO_STREAM: 1,
    Type.START_INTERRUPT_RECEIVING: 1,
    Type.STOP_INTERRUPT_RECEIVING: 1,
    Type.CANCEL_DATA_PACKET: 0,
    Type.FILTER_REJECT: 0,
    Type.DEVICE_DISCONNECT_ACK: 0,
}


class Codec:
    """One connection's messages, both ways, in the layout its two hellos agreed on.

    Attributes:
        common: capabilities both sides have; None until the peer's hello is in, and
            until then nothing but our hello may be sent: headers may change size.
    """

    def __init__(self, version: str) -> None:
        self.common: Capability | None = None
        self._version = version
        self._buffer = bytearray()
        self._header = _HEADER_32
        self._packets: dict[int, Callable[[int, bytes], DataPacket]] = {
            Type.CONTROL_PACKET: _parse_control,
            Type.BULK_PACKET: self._parse_bulk,
            Type.INTERRUPT_PACKET: _parse_interrupt,
        }

    # -- from usb-guest --------------------------------------------------------------

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes and give each message they complete.

        Raises:
            RemoteProtocolError: a type, a length or a direction is wrong; the stream
                cannot be followed any further.
        """
        buffer = self._buffer
        buffer += data
        while len(buffer) >= self._header.size:
            type_, length, id_ = self._header.unpack_from(buffer)
            if length > MAX_DATA + _CONTROL.size:
                raise RemoteProtocolError(f"usbredir message of {length} bytes, type {type_}")
            end = self._header.size + length
            if len(buffer) < end:
                return
            body = bytes(buffer[self._header.size : end])
            del buffer[:end]
            yield self._parse(type_, id_, body)

    def _parse(self, type_: int, id_: int, body: bytes) -> Message:
        if self.common is None:
            if type_ != Type.HELLO:
                raise RemoteProtocolError(f"usbredir message of type {type_} before hello")
            return self._parse_hello(body)
        parse = self._packets.get(type_)
        if parse is not None:
            return parse(id_, body)
        if type_ in _REQUESTS:
            return _parse_request(Type(type_), id_, body)
        if type_ == Type.FILTER_FILTER and Capability.FILTER in self.common:
            return Filter(body.rstrip(b"\0").decode(errors="replace"))
        raise RemoteProtocolError(f"usbredir message of type {type_}")

    def _parse_hello(self, body: bytes) -> Hello:
        if len(body) < 64 or len(body) % 4:
            raise RemoteProtocolError(f"usbredir hello of {len(body)} bytes")
        words = body[64:68] or bytes(4)  # protocol 0.3 had no capabilities
        theirs = Capability(int.from_bytes(words, "little") & 0xFF)
        self.common = OURS & theirs
        if Capability.IDS_64BITS in self.common:
            self._header = _HEADER_64
        return Hello(body[:64].rstrip(b"\0").decode(errors="replace"), theirs)

    def _parse_bulk(self, id_: int, body: bytes) -> BulkPacket:
        wide = Capability.BULK_LENGTH_32BITS in self._agreed()
        size = _BULK.size + 2 * wide
        if len(body) < size:
            raise RemoteProtocolError(f"usbredir bulk_packet of {len(body)} bytes")
        endpoint, _, length, stream_id = _BULK.unpack_from(body)
        if wide:
            length |= _U16.unpack_from(body, _BULK.size)[0] << 16
        packet = BulkPacket(id_, endpoint, length, body[size:], stream_id=stream_id)
        _check_data(packet)
        return packet

    def _agreed(self) -> Capability:
        if self.common is None:
            raise LocalProtocolError("nothing but hello goes out before the peer's hello")
        return self.common

    # -- to usb-guest ----------------------------------------------------------------

    def hello(self) -> bytes:
        """hello, the first message; its id has 4 bytes whatever follows."""
        body = _HELLO.pack(self._version.encode()[:63], OURS)
        return _HEADER_32.pack(Type.HELLO, len(body), 0) + body

    def device_connect(
        self, speed: Speed, device_class: tuple[int, int, int], vendor_id: int, product_id: int,
        release: int,
    ) -> bytes:  # fmt: skip
        """device_connect; `ep_info` and `interface_info` come before it."""
        body = _CONNECT.pack(speed, *device_class, vendor_id, product_id)
        if Capability.CONNECT_DEVICE_VERSION in self._agreed():
            body += _U16.pack(release)
        return self._message(Type.DEVICE_CONNECT, 0, body)

    def device_disconnect(self) -> bytes:
        """device_disconnect; a new device_connect waits for its ack, if that is agreed."""
        return self._message(Type.DEVICE_DISCONNECT, 0, b"")

    def interface_info(self, classes: tuple[tuple[int, int, int], ...]) -> bytes:
        """interface_info, of interfaces numbered from 0: class, subclass, protocol."""
        count = len(classes)
        columns = (tuple(range(count)), *zip(*classes, strict=True))
        body = struct.pack("<I", count) + b"".join(
            bytes(column) + bytes(32 - count) for column in columns
        )
        return self._message(Type.INTERFACE_INFO, 0, body)

    def ep_info(self, endpoints: Mapping[int, EndpointInfo]) -> bytes:
        """ep_info, by endpoint address; those not named do not exist."""
        none = EndpointInfo(EndpointType.INVALID, 0, 0, 0)
        rows = [none] * 32
        for address, info in endpoints.items():
            rows[(address & 0x80) >> 3 | address & 0x0F] = info
        body = bytes(row.type for row in rows)
        body += bytes(row.interval for row in rows) + bytes(row.interface for row in rows)
        if Capability.EP_INFO_MAX_PACKET_SIZE in self._agreed():
            body += struct.pack("<32H", *(row.max_packet_size for row in rows))
        return self._message(Type.EP_INFO, 0, body)

    def status(self, type_: Type, id_: int, status: Status, *values: int) -> bytes:
        """configuration_status, alt_setting_status, interrupt_receiving_status or
        iso_stream_status; `values` are the u8 fields behind the status."""
        return self._message(type_, id_, bytes((status, *values)))

    def packet(self, packet: DataPacket) -> bytes:
        """An answer, or interrupt data. Its length is what moved; IN carries that data."""
        if len(packet.data) != (packet.length if packet.is_in else 0):
            raise LocalProtocolError(f"{packet.TYPE.name}: data and length do not agree")
        if isinstance(packet, ControlPacket):
            head = _CONTROL.pack(
                packet.endpoint, packet.request, packet.request_type, packet.status,
                packet.value, packet.index, packet.length,
            )  # fmt: skip
        elif isinstance(packet, InterruptPacket):
            head = _INTERRUPT.pack(packet.endpoint, packet.status, packet.length)
        else:
            head = _BULK.pack(
                packet.endpoint, packet.status, packet.length & 0xFFFF, packet.stream_id
            )
            if Capability.BULK_LENGTH_32BITS in self._agreed():
                head += _U16.pack(packet.length >> 16)
            elif packet.length > 0xFFFF:
                raise LocalProtocolError("a bulk_packet too long for this peer")
        return self._message(packet.TYPE, packet.id, head + packet.data)

    def _message(self, type_: Type, id_: int, body: bytes) -> bytes:
        self._agreed()
        return self._header.pack(type_, len(body), id_) + body


def _parse_request(type_: Type, id_: int, body: bytes) -> Request:
    if len(body) != _REQUESTS[type_]:
        raise RemoteProtocolError(f"usbredir {type_.name.lower()} of {len(body)} bytes")
    return Request(type_, id_, tuple(body))


def _parse_control(id_: int, body: bytes) -> ControlPacket:
    if len(body) < _CONTROL.size:
        raise RemoteProtocolError(f"usbredir control_packet of {len(body)} bytes")
    # QEMU leaves the status of a request as its memory was.
    endpoint, request, request_type, _, value, index, length = _CONTROL.unpack_from(body)
    data = body[_CONTROL.size :]
    packet = ControlPacket(id_, endpoint, request, request_type, value, index, length, data)
    _check_data(packet)
    return packet


def _parse_interrupt(id_: int, body: bytes) -> InterruptPacket:
    if len(body) < _INTERRUPT.size:
        raise RemoteProtocolError(f"usbredir interrupt_packet of {len(body)} bytes")
    endpoint, _, length = _INTERRUPT.unpack_from(body)
    packet = InterruptPacket(id_, endpoint, length, body[_INTERRUPT.size :])
    if packet.is_in:
        raise RemoteProtocolError("usbredir interrupt_packet IN from the side that reads")
    _check_data(packet)
    return packet


def _check_data(packet: DataPacket) -> None:
    """A request carries OUT data, exactly as much as it says, and never IN data."""
    if packet.length > MAX_DATA:
        raise RemoteProtocolError(f"usbredir {packet.TYPE.name.lower()} for {packet.length} bytes")
    if len(packet.data) != (0 if packet.is_in else packet.length):
        raise RemoteProtocolError(
            f"usbredir {packet.TYPE.name.lower()} with {len(packet.data)} bytes of data "
            f"and length {packet.length}"
        )
