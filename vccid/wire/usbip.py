# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB/IP protocol 1.1.1, the side that has the devices (Linux: usb/usbip_protocol.rst).

All integers are big-endian, but for the 8 setup bytes and the payload, which are as on USB.
A connection begins with one OP message each way; after an import it carries URBs only. A
kernel that is handed a socket through sysfs begins with the URBs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from vccid.errors import RemoteProtocolError
from vccid.wire.usbip_states import USBIP_PEER, Event, State

PORT: Final = 3240
VERSION: Final = 0x0111

#: The most one transfer may carry, bytes: a CCID message has 65,554 at most, libusb asks for
#: 65,556, and nobody needs a device like this for more.
MAX_TRANSFER: Final = 1 << 20
#: USBIP_MAX_ISO_PACKETS of Linux
_MAX_ISO_PACKETS: Final = 1024
_ISO_DESCRIPTOR: Final = 16
#: number_of_packets of other transfers as the document has it; Linux sends 0.
_NOT_ISOCHRONOUS: Final = 0xFFFFFFFF

_OP_REQ_DEVLIST: Final = 0x8005
_OP_REP_DEVLIST: Final = 0x0005
_OP_REQ_IMPORT: Final = 0x8003
_OP_REP_IMPORT: Final = 0x0003

_CMD_SUBMIT: Final = 1
_CMD_UNLINK: Final = 2
_RET_SUBMIT: Final = 3
_RET_UNLINK: Final = 4

#: version, code, status
_OP: Final = struct.Struct(">HHI")
_BUSID_SIZE: Final = 32
#: path, busid, busnum, devnum, speed, idVendor, idProduct, bcdDevice, bDeviceClass,
#: bDeviceSubClass, bDeviceProtocol, bConfigurationValue, bNumConfigurations, bNumInterfaces
_RECORD: Final = struct.Struct(">256s32sIIIHHHBBBBBB")
#: command, seqnum, devid, direction, ep, transfer_flags, transfer_buffer_length, start_frame,
#: number_of_packets, interval, setup; CMD_UNLINK has its victim's seqnum in place of the flags
_REQUEST: Final = struct.Struct(">10I8s")
#: command, seqnum, devid, direction, ep, status, actual_length, start_frame,
#: number_of_packets, error_count, padding
_REPLY: Final = struct.Struct(">5IiIIII8x")


class OpStatus(IntEnum):
    """status of an OP reply (tools/usb/usbip/libsrc/usbip_common.h)."""

    OK = 0
    NOT_AVAILABLE = 1
    DEVICE_BUSY = 2
    DEVICE_ERROR = 3
    NO_DEVICE = 4
    ERROR = 5


class UrbStatus(IntEnum):
    """status of a RET message: Linux' error numbers, negative."""

    OK = 0
    #: a stall; EPIPE
    STALL = -32
    #: babble; EOVERFLOW
    OVERFLOW = -75
    #: unlinked before it ended; ECONNRESET
    UNLINKED = -104
    #: no such kind of transfer; EINVAL
    INVALID = -22


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device in OP_REP_DEVLIST and OP_REP_IMPORT.

    Attributes:
        path: free text.
        speed: enum usb_device_speed: 2 full, 3 high, 5 super.
        release: bcdDevice.
        interfaces: class, subclass and protocol of each.
    """

    path: str
    busid: str
    busnum: int
    devnum: int
    speed: int
    vendor_id: int
    product_id: int
    release: int
    interfaces: tuple[tuple[int, int, int], ...]
    configuration: int = 1
    configurations: int = 1

    def serialize(self, *, with_interfaces: bool) -> bytes:
        """312 bytes, and 4 for each interface in OP_REP_DEVLIST."""
        raw = _RECORD.pack(
            self.path.encode()[:255], self.busid.encode()[:31], self.busnum, self.devnum,
            self.speed, self.vendor_id, self.product_id, self.release, 0, 0, 0,
            self.configuration, self.configurations, len(self.interfaces),
        )  # fmt: skip
        if with_interfaces:
            raw += b"".join(bytes((*interface, 0)) for interface in self.interfaces)
        return raw


@dataclass(frozen=True, slots=True)
class RequestDevlist:
    """OP_REQ_DEVLIST."""


@dataclass(frozen=True, slots=True)
class RequestImport:
    """OP_REQ_IMPORT."""

    busid: str


def reply_devlist(records: tuple[DeviceRecord, ...]) -> bytes:
    """OP_REP_DEVLIST."""
    header = _OP.pack(VERSION, _OP_REP_DEVLIST, OpStatus.OK) + struct.pack(">I", len(records))
    return header + b"".join(record.serialize(with_interfaces=True) for record in records)


def reply_import(record: DeviceRecord) -> bytes:
    """OP_REP_IMPORT: the device is the peer's, URBs follow."""
    header = _OP.pack(VERSION, _OP_REP_IMPORT, OpStatus.OK)
    return header + record.serialize(with_interfaces=False)


def refuse_import(status: OpStatus) -> bytes:
    """OP_REP_IMPORT: no."""
    return _OP.pack(VERSION, _OP_REP_IMPORT, status)


@dataclass(slots=True)
class Submit:
    """CMD_SUBMIT.

    Attributes:
        length: bytes of `data` (OUT), or room (IN).
        data: OUT only; may hold a PIN and is never shown.
        isochronous: it came with packet descriptors; they are left out.
    """

    seqnum: int
    is_in: bool
    endpoint: int
    length: int
    setup: bytes
    data: bytes = field(default=b"", repr=False)
    isochronous: bool = False


@dataclass(slots=True)
class Unlink:
    """CMD_UNLINK: `victim` is the seqnum of the submit to cancel."""

    seqnum: int
    victim: int


def reply_submit(seqnum: int, status: UrbStatus, length: int, data: bytes = b"") -> bytes:
    """RET_SUBMIT; `data` (IN) is `length` bytes, of an OUT transfer there is none."""
    return _REPLY.pack(_RET_SUBMIT, seqnum, 0, 0, 0, status, length, 0, 0, 0) + data


def reply_unlink(seqnum: int, status: UrbStatus) -> bytes:
    """RET_UNLINK: UNLINKED where the submit will never be answered, OK where it has been."""
    return _REPLY.pack(_RET_UNLINK, seqnum, 0, 0, 0, status, 0, 0, 0, 0)


OpMessage = RequestDevlist | RequestImport
UrbMessage = Submit | Unlink


class Receiver:
    """Bytes of one connection in, messages out; every length is checked before it is used.

    Attributes:
        state: which messages are expected.
    """

    def __init__(self, *, imported: bool = False) -> None:
        """`imported`: URBs are expected from the first byte on, as at vhci's socket."""
        self.state = State.IMPORTED if imported else USBIP_PEER.initial
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """Half a message is held."""
        return bool(self._buffer)

    def begin_urbs(self) -> list[UrbMessage]:
        """The import was granted: URBs from now on, and those that came early.

        Raises:
            LocalProtocolError: none was asked for.
        """
        self._move(Event.GRANTED)
        return self._urbs()

    def feed_op(self, data: bytes) -> OpMessage | None:
        """Take bytes before the import; None while the request is not whole.

        Raises:
            RemoteProtocolError: another version, another request, or a second one.
        """
        self._buffer += data
        if self.state is not State.REQUEST and self._buffer:
            raise RemoteProtocolError("a second request before the first was answered")
        if len(self._buffer) < _OP.size:
            return None
        version, code, _ = _OP.unpack_from(self._buffer)
        if version != VERSION:
            raise RemoteProtocolError(f"version {version:#06x} is not {VERSION:#06x}")
        if code == _OP_REQ_DEVLIST:
            return self._asked_for(RequestDevlist(), Event.DEVLIST, _OP.size)
        if code != _OP_REQ_IMPORT:
            raise RemoteProtocolError(f"no request has code {code:#06x}")
        if len(self._buffer) < _OP.size + _BUSID_SIZE:
            return None
        busid = bytes(self._buffer[_OP.size : _OP.size + _BUSID_SIZE]).partition(b"\0")[0]
        if not busid.isascii():
            raise RemoteProtocolError("a busid is text")
        request = RequestImport(busid.decode("ascii"))
        return self._asked_for(request, Event.IMPORT, _OP.size + _BUSID_SIZE)

    def feed(self, data: bytes) -> list[UrbMessage]:
        """Take bytes after the import.

        Raises:
            RemoteProtocolError: no such message, or an impossible field; the stream is lost.
        """
        if self._buffer:
            self._buffer += data
            return self._urbs()
        messages: list[UrbMessage] = []
        taken = _take_urbs(data, messages)
        if taken < len(data):
            self._buffer += data[taken:]
        return messages

    def _asked_for(self, request: OpMessage, event: Event, size: int) -> OpMessage:
        self._move(event)
        del self._buffer[:size]
        return request

    def _urbs(self) -> list[UrbMessage]:
        messages: list[UrbMessage] = []
        taken = _take_urbs(self._buffer, messages)
        del self._buffer[:taken]
        return messages

    def _move(self, event: Event) -> None:
        self.state = USBIP_PEER.after(self.state, event)


def _take_urbs(buffer: bytes | bytearray, messages: list[UrbMessage]) -> int:
    """Append the whole messages at the head of `buffer`; returns their size together."""
    at, end = 0, len(buffer)
    while end - at >= _REQUEST.size:
        command, seqnum, _, direction, endpoint, flags, length, _, packets, _, setup = (
            _REQUEST.unpack_from(buffer, at)
        )
        data_at = at + _REQUEST.size
        if command == _CMD_UNLINK:
            messages.append(Unlink(seqnum, flags))
            at = data_at
            continue
        if command != _CMD_SUBMIT:
            raise RemoteProtocolError(f"no URB message has command {command:#x}")
        if direction > 1 or endpoint > 15:
            raise RemoteProtocolError(f"direction {direction}, endpoint {endpoint}: no such thing")
        if length > MAX_TRANSFER:
            raise RemoteProtocolError(f"a transfer of {length} bytes")
        if packets == _NOT_ISOCHRONOUS:
            packets = 0
        if packets > _MAX_ISO_PACKETS:
            raise RemoteProtocolError(f"{packets} isochronous packets")
        data_end = data_at if direction else data_at + length
        following = data_end + packets * _ISO_DESCRIPTOR
        if following > end:
            break
        data = bytes(buffer[data_at:data_end]) if data_end > data_at else b""
        messages.append(Submit(seqnum, direction == 1, endpoint, length, setup, data, packets != 0))
        at = following
    return at
