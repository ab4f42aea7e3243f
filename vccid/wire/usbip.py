# SPDX-License-Identifier: LGPL-2.1-or-later
"""USB/IP 1.1.1, the side that has the device (Linux: Documentation/usb/usbip_protocol.rst).

A connection has two phases: operations (list, import), then URBs for as long as it lasts.
A kernel attached through sysfs starts with the second. Integers are big-endian; the setup
packet and the data are as on USB.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from vccid.errors import LocalProtocolError, RemoteProtocolError

VERSION: Final = 0x0111
TCP_PORT: Final = 3240

#: Longest OUT transfer taken, in bytes; the longest CCID message has 65,554.
MAX_OUT: Final = 1 << 17

#: Bytes of a bus id, NUL-padded.
_BUSID_SIZE: Final = 32


class OpStatus(IntEnum):
    """Status of an operation's reply (tools/usb/usbip/libsrc/usbip_common.h)."""

    OK = 0
    NOT_AVAILABLE = 1
    DEVICE_BUSY = 2
    DEVICE_ERROR = 3
    NO_DEVICE = 4
    ERROR = 5


class Speed(IntEnum):
    """enum usb_device_speed."""

    LOW = 1
    FULL = 2
    HIGH = 3
    SUPER = 5


class UrbStatus(IntEnum):
    """Negative Linux errno values, as every client takes them."""

    OK = 0
    ENOENT = -2
    ESHUTDOWN = -108
    ECONNRESET = -104
    EOVERFLOW = -75
    EPIPE = -32


class Direction(IntEnum):
    """Of a transfer, seen from the host."""

    OUT = 0
    IN = 1


# --- operations --------------------------------------------------------------------------

_OP_HEADER: Final = struct.Struct(">HHI")  # version, code, status
_REQ_DEVLIST, _REP_DEVLIST = 0x8005, 0x0005
_REQ_IMPORT, _REP_IMPORT = 0x8003, 0x0003

#: path, busid, busnum, devnum, speed, idVendor, idProduct, bcdDevice, bDeviceClass,
#: bDeviceSubClass, bDeviceProtocol, bConfigurationValue, bNumConfigurations, bNumInterfaces
_DEVICE: Final = struct.Struct(">256s32sIIIHHHBBBBBB")
_INTERFACE: Final = struct.Struct(">BBBx")  # class, subclass, protocol
_COUNT: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class DevlistRequest:
    """OP_REQ_DEVLIST: what is there?"""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """OP_REQ_IMPORT: give me this device."""

    busid: str


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as the list and an import show it.

    Attributes:
        path: free text, up to 255 bytes.
        busid: up to 31 ASCII characters, such as "1-1".
        interfaces: (class, subclass, protocol) of each.
    """

    path: str
    busid: str
    busnum: int
    devnum: int
    speed: Speed
    vendor: int
    product: int
    bcd_device: int
    interfaces: tuple[tuple[int, int, int], ...]
    device_class: tuple[int, int, int] = (0, 0, 0)
    configuration: int = 1

    def serialize(self) -> bytes:
        """The 312 bytes without interfaces."""
        return _DEVICE.pack(
            self.path.encode()[:255],
            self.busid.encode("ascii"),
            self.busnum,
            self.devnum,
            self.speed,
            self.vendor,
            self.product,
            self.bcd_device,
            *self.device_class,
            self.configuration,
            1,
            len(self.interfaces),
        )


def serialize_devlist(devices: tuple[DeviceRecord, ...]) -> bytes:
    """OP_REP_DEVLIST."""
    parts = [_OP_HEADER.pack(VERSION, _REP_DEVLIST, OpStatus.OK), _COUNT.pack(len(devices))]
    for device in devices:
        parts.append(device.serialize())
        parts += (_INTERFACE.pack(*interface) for interface in device.interfaces)
    return b"".join(parts)


def serialize_import(device: DeviceRecord) -> bytes:
    """OP_REP_IMPORT of a device that is now the peer's."""
    return _OP_HEADER.pack(VERSION, _REP_IMPORT, OpStatus.OK) + device.serialize()


def serialize_refusal(status: OpStatus) -> bytes:
    """OP_REP_IMPORT of a device the peer does not get."""
    return _OP_HEADER.pack(VERSION, _REP_IMPORT, status)


# --- URBs --------------------------------------------------------------------------------

_CMD_SUBMIT, _CMD_UNLINK, _RET_SUBMIT, _RET_UNLINK = 1, 2, 3, 4

#: command, seqnum, devid, direction, ep
_URB_HEADER: Final = struct.Struct(">IIIII")
#: transfer_flags, transfer_buffer_length, start_frame, number_of_packets, interval, setup
_SUBMIT: Final = struct.Struct(">IIIII8s")
_UNLINK: Final = struct.Struct(">I24x")  # seqnum of the CMD_SUBMIT to cancel
#: command, seqnum, devid, direction, ep, status, actual_length, start_frame,
#: number_of_packets, error_count, padding
_RETURN: Final = struct.Struct(">IIIIIiIIII8x")
_URB_SIZE: Final = _URB_HEADER.size + _SUBMIT.size

#: number_of_packets of what is not isochronous: Linux sends 0, the document has the other.
_NO_PACKETS: Final = (0, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Submit:
    """USBIP_CMD_SUBMIT: one whole transfer.

    Attributes:
        seqnum: names the transfer in what follows; in no order.
        endpoint: number, 0 to 15.
        length: bytes the transfer carries (OUT) or has room for (IN).
        setup: 8 bytes; zeros but for control transfers.
        data: what an OUT transfer carries.
    """

    seqnum: int
    direction: Direction
    endpoint: int
    length: int
    setup: bytes
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Unlink:
    """USBIP_CMD_UNLINK: cancel the transfer `target`."""

    seqnum: int
    target: int


def serialize_submit_return(
    seqnum: int, status: UrbStatus, actual_length: int, data: bytes = b""
) -> bytes:
    """USBIP_RET_SUBMIT; `data` is an IN transfer's, `actual_length` bytes."""
    return _RETURN.pack(_RET_SUBMIT, seqnum, 0, 0, 0, status, actual_length, 0, 0, 0) + data


def serialize_unlink_return(seqnum: int, cancelled: bool) -> bytes:
    """USBIP_RET_UNLINK of the CMD_UNLINK `seqnum`; not cancelled means answered before."""
    status = UrbStatus.ECONNRESET if cancelled else UrbStatus.OK
    return _RETURN.pack(_RET_UNLINK, seqnum, 0, 0, 0, status, 0, 0, 0, 0)


Message = DevlistRequest | ImportRequest | Submit | Unlink


class Receiver:
    """Cuts what a client sends into messages, however it arrives."""

    def __init__(self, imported: bool = False) -> None:
        """Begin with operations, or with URBs where the device is the peer's already."""
        self._imported = imported
        self._buffer = bytearray()

    def imported(self) -> None:
        """The device is the peer's from now on: URBs follow."""
        if self._imported:
            raise LocalProtocolError("a device is imported once for each connection")
        self._imported = True

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer += data

    def messages(self) -> Iterator[Message]:
        """The messages that are complete; `imported` may be called between two.

        Raises:
            RemoteProtocolError: what came is none this side takes.
        """
        while (message := self._urb() if self._imported else self._operation()) is not None:
            yield message

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _operation(self) -> Message | None:
        if len(self._buffer) < _OP_HEADER.size:
            return None
        version, code, _ = _OP_HEADER.unpack_from(self._buffer)
        if version != VERSION:
            raise RemoteProtocolError(f"USB/IP version {version:#06x}; this side has 0x0111")
        if code == _REQ_DEVLIST:
            self._take(_OP_HEADER.size)
            return DevlistRequest()
        if code != _REQ_IMPORT:
            raise RemoteProtocolError(f"operation {code:#06x} where a list or import is asked for")
        if len(self._buffer) < _OP_HEADER.size + _BUSID_SIZE:
            return None
        busid = self._take(_OP_HEADER.size + _BUSID_SIZE)[_OP_HEADER.size :].partition(b"\0")[0]
        return ImportRequest(busid.decode("ascii", "replace"))

    def _urb(self) -> Message | None:
        if len(self._buffer) < _URB_SIZE:
            return None
        command, seqnum, _, direction, endpoint = _URB_HEADER.unpack_from(self._buffer)
        if command == _CMD_UNLINK:
            (target,) = _UNLINK.unpack_from(self._buffer, _URB_HEADER.size)
            self._take(_URB_SIZE)
            return Unlink(seqnum, target)
        if command != _CMD_SUBMIT:
            raise RemoteProtocolError(f"command {command} where a transfer is submitted")
        if direction > Direction.IN or endpoint > 15:
            raise RemoteProtocolError(f"a transfer to endpoint {endpoint}, direction {direction}")
        return self._submit(seqnum, Direction(direction), endpoint)

    def _submit(self, seqnum: int, direction: Direction, endpoint: int) -> Submit | None:
        _, length, _, packets, _, setup = _SUBMIT.unpack_from(self._buffer, _URB_HEADER.size)
        if packets not in _NO_PACKETS:
            raise RemoteProtocolError("an isochronous transfer; a reader has no such endpoint")
        if direction is Direction.IN:
            self._take(_URB_SIZE)
            return Submit(seqnum, direction, endpoint, length, setup)
        if length > MAX_OUT:
            raise RemoteProtocolError(f"a transfer of {length} bytes; {MAX_OUT} at most")
        if len(self._buffer) < _URB_SIZE + length:
            return None
        return Submit(
            seqnum, direction, endpoint, length, setup, self._take(_URB_SIZE + length)[_URB_SIZE:]
        )
