# SPDX-License-Identifier: LGPL-2.1-or-later
"""The descriptors of one CCID reader (USB 2.0, 9.5 and 9.6; USB 3.2, 9.6; CCID rev 1.1, 5.1).

All integers are little-endian. Bulk OUT is endpoint 1, bulk IN 81h, interrupt IN 82h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from vccid.ccid.class_descriptor import ClassDescriptor

BULK_OUT: Final = 0x01
BULK_IN: Final = 0x81
INTERRUPT_IN: Final = 0x82

#: US English, the one language of the strings (9.6.7).
LANGUAGE: Final = 0x0409

#: bString holds at most 126 UTF-16 units: bLength is one byte.
_LONGEST_STRING: Final = 126

#: bmAttributes of a configuration: bus-powered, no remote wake-up.
_BUS_POWERED: Final = 0x80
_INTERRUPT_SIZE: Final = 8


class Speed(IntEnum):
    """Speed of a device, numbered as Linux and USB/IP do (enum usb_device_speed)."""

    FULL = 2
    HIGH = 3
    SUPER = 5


class DescriptorType(IntEnum):
    """bDescriptorType (USB 2.0, table 9-5; USB 3.2, table 9-6)."""

    DEVICE = 1
    CONFIGURATION = 2
    STRING = 3
    INTERFACE = 4
    ENDPOINT = 5
    DEVICE_QUALIFIER = 6
    OTHER_SPEED_CONFIGURATION = 7
    BOS = 15
    DEVICE_CAPABILITY = 16
    ENDPOINT_COMPANION = 48


#: wMaxPacketSize of the bulk endpoints (USB 2.0, 5.8.3; USB 3.2, 9.6.6)
BULK_SIZE: Final = {Speed.FULL: 64, Speed.HIGH: 512, Speed.SUPER: 1024}

#: bInterval of 16 ms: frames at full speed, 2 to the power of n - 1 microframes above.
_INTERVAL: Final = {Speed.FULL: 16, Speed.HIGH: 8, Speed.SUPER: 8}

#: bcdUSB; below 0201h no host asks for BOS.
_BCD_USB: Final = {Speed.FULL: 0x0200, Speed.HIGH: 0x0200, Speed.SUPER: 0x0300}

#: bLength, bDescriptorType, bcdUSB, bDeviceClass, bDeviceSubClass, bDeviceProtocol,
#: bMaxPacketSize0, idVendor, idProduct, bcdDevice, iManufacturer, iProduct, iSerialNumber,
#: bNumConfigurations (9.6.1)
_DEVICE: Final = struct.Struct("<BBHBBBBHHHBBBB")
#: bLength, bDescriptorType, bcdUSB, class, subclass, protocol, bMaxPacketSize0,
#: bNumConfigurations, bReserved (9.6.2)
_QUALIFIER: Final = struct.Struct("<BBHBBBBBB")
#: bLength, bDescriptorType, wTotalLength, bNumInterfaces, bConfigurationValue,
#: iConfiguration, bmAttributes, bMaxPower (9.6.3)
_CONFIGURATION: Final = struct.Struct("<BBHBBBBB")
#: bLength, bDescriptorType, bInterfaceNumber, bAlternateSetting, bNumEndpoints,
#: bInterfaceClass, bInterfaceSubClass, bInterfaceProtocol, iInterface (9.6.5)
_INTERFACE: Final = struct.Struct("<BBBBBBBBB")
#: bLength, bDescriptorType, bEndpointAddress, bmAttributes, wMaxPacketSize, bInterval (9.6.6)
_ENDPOINT: Final = struct.Struct("<BBBBHB")
#: bLength, bDescriptorType, bMaxBurst, bmAttributes, wBytesPerInterval (USB 3.2, 9.6.7)
_COMPANION: Final = struct.Struct("<BBBBH")
#: bLength, bDescriptorType, wTotalLength, bNumDeviceCaps (USB 3.2, 9.6.2)
_BOS: Final = struct.Struct("<BBHB")
#: USB 2.0 extension: link power management, which a SuperSpeed device must have (9.6.2.1)
_USB2_EXTENSION: Final = struct.pack("<BBBI", 7, DescriptorType.DEVICE_CAPABILITY, 2, 0x02)
#: SuperSpeed: no latency tolerance messages; full, high and super speed, works from full on;
#: no exit latencies (9.6.2.2)
_SUPER_SPEED: Final = struct.pack(
    "<BBBBHBBH", 10, DescriptorType.DEVICE_CAPABILITY, 3, 0, 0x000E, 1, 0, 0
)

#: iProduct, where nobody says otherwise.
PRODUCT: Final = "Virtual Smart Card Reader"

CLASS: Final = (0x0B, 0x00, 0x00)  # smart card, CCID (CCID rev 1.1, 4.2)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the device says it is.

    The default vendor and product id are those of VMware's virtual reader, which is a virtual
    CCID reader too, is in libccid's list and has no special treatment there; see docs/ccid.md.

    Attributes:
        release: bcdDevice.
        serial: unique to the reader.
        label: iInterface; libccid shows it in the PC/SC reader's name.
    """

    serial: str
    label: str
    #: "VMware Virtual USB CCID": libccid takes listed ids alone, and has no quirk for this one
    vendor_id: int = 0x0E0F
    product_id: int = 0x0004
    release: int = 0x0100
    manufacturer: str = "vccid"
    product: str = PRODUCT


class Descriptors:
    """Everything GET_DESCRIPTOR can ask for, for one speed."""

    def __init__(self, identity: Identity, function: ClassDescriptor, speed: Speed) -> None:
        self.identity = identity
        self.speed = speed
        self._function = function.serialize()
        self._strings = (
            identity.manufacturer,
            identity.product,
            identity.serial,
            identity.label,
        )
        self._known = self._all()

    def get(self, kind: int, index: int, language: int) -> bytes | None:
        """One whole descriptor; None where there is none (9.4.3: a request error)."""
        if kind == DescriptorType.STRING:
            return self._string(index, language)
        return self._known.get(kind) if index == 0 else None

    def _all(self) -> dict[int, bytes]:
        known = {
            int(DescriptorType.DEVICE): self._device(),
            int(DescriptorType.CONFIGURATION): self._configuration(
                self.speed, DescriptorType.CONFIGURATION
            ),
        }
        # 9.6.2: a device that has only one speed answers a request error.
        if self.speed is Speed.HIGH:
            known[DescriptorType.DEVICE_QUALIFIER] = _QUALIFIER.pack(
                _QUALIFIER.size, DescriptorType.DEVICE_QUALIFIER, 0x0200, 0, 0, 0, 64, 1, 0
            )
            known[DescriptorType.OTHER_SPEED_CONFIGURATION] = self._configuration(
                Speed.FULL, DescriptorType.OTHER_SPEED_CONFIGURATION
            )
        if self.speed is Speed.SUPER:
            capabilities = _USB2_EXTENSION + _SUPER_SPEED
            known[DescriptorType.BOS] = (
                _BOS.pack(_BOS.size, DescriptorType.BOS, _BOS.size + len(capabilities), 2)
                + capabilities
            )
        return known

    def _device(self) -> bytes:
        # USB 3.2, 9.6.1: at super speed bMaxPacketSize0 is an exponent.
        packet = 9 if self.speed is Speed.SUPER else 64
        identity = self.identity
        return _DEVICE.pack(
            _DEVICE.size, DescriptorType.DEVICE, _BCD_USB[self.speed], 0, 0, 0, packet,
            identity.vendor_id, identity.product_id, identity.release, 1, 2, 3, 1,
        )  # fmt: skip

    def _configuration(self, speed: Speed, kind: DescriptorType) -> bytes:
        interface = _INTERFACE.pack(_INTERFACE.size, DescriptorType.INTERFACE, 0, 0, 3, *CLASS, 4)
        # CCID rev 1.1, 5.1: the class descriptor stands before the first endpoint.
        body = interface + self._function + self._endpoints(speed)
        power = 13 if speed is Speed.SUPER else 50  # 100 mA, in units of 8 or 2 mA
        return _CONFIGURATION.pack(
            _CONFIGURATION.size, kind, _CONFIGURATION.size + len(body), 1, 1, 0, _BUS_POWERED, power
        ) + body  # fmt: skip

    @staticmethod
    def _endpoints(speed: Speed) -> bytes:
        size, raw = BULK_SIZE[speed], b""
        for address, attributes, packet, interval in (
            (BULK_OUT, 2, size, 0),
            (BULK_IN, 2, size, 0),
            (INTERRUPT_IN, 3, _INTERRUPT_SIZE, _INTERVAL[speed]),
        ):
            raw += _ENDPOINT.pack(
                _ENDPOINT.size, DescriptorType.ENDPOINT, address, attributes, packet, interval
            )
            if speed is Speed.SUPER:
                periodic = packet if attributes == 3 else 0
                raw += _COMPANION.pack(
                    _COMPANION.size, DescriptorType.ENDPOINT_COMPANION, 0, 0, periodic
                )
        return raw

    def _string(self, index: int, language: int) -> bytes | None:
        if index == 0:
            return struct.pack("<BBH", 4, DescriptorType.STRING, LANGUAGE)
        if index > len(self._strings) or language not in (0, LANGUAGE):
            return None
        text = self._strings[index - 1].encode("utf-16-le")[: 2 * _LONGEST_STRING]
        return bytes((2 + len(text), DescriptorType.STRING)) + text
