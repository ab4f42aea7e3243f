# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a reader tells of itself, by SCardControl and SCardGetAttrib: as our driver in pcscd does.

Source: PC/SC part 10, 2.2 and 2.6.14; part 3, 3.1.2; values in pcsc-lite's PCSC/reader.h.
"""

from __future__ import annotations

import struct
from typing import Final

from vccid.wire.ifd import GET_SERIAL
from vccid.wire.pcsclite import DATA_MAX

#: CM_IOCTL_GET_FEATURE_REQUEST
GET_FEATURES: Final = 0x42000D48
#: where libccid has the feature GET_TLV_PROPERTIES
GET_PROPERTIES: Final = 0x42330012

#: tag, length, control code, which alone is big-endian
_FEATURES: Final = struct.pack(">BBI", 0x12, 4, GET_PROPERTIES)
#: dwMaxAPDUDataSize: extended APDUs
_PROPERTIES: Final = struct.pack("<BBI", 10, 4, 0x10000)

#: 0xMMmmbbbb
_VERSION: Final = 0x00010000

#: in host order
_NUMBER: Final = struct.Struct("=I")

_ATR_STRING: Final = 0x00090303
_ICC_PRESENCE: Final = 0x00090300
_ICC_INTERFACE_STATUS: Final = 0x00090301
_ICC_TYPE_PER_ATR: Final = 0x00090304
_NAMES: Final = (0x7FFF0003, 0x7FFF0004)


def own_answer(code: int, serial: str) -> bytes | None:
    """What every reader answers to a control code, before what a PIN pad adds; None: nothing."""
    if code == GET_FEATURES:
        return _FEATURES
    if code == GET_PROPERTIES:
        return _PROPERTIES
    return serial.encode("ascii") if code == GET_SERIAL else None


def attribute(number: int, *, name: bytes, serial: str, atr: bytes, powered: bool) -> bytes | None:
    """An attribute's value, or None where the reader has none such.

    Args:
        atr: of the card that is in, or empty.
    """
    values = {
        _ATR_STRING: atr or None,
        _ICC_PRESENCE: bytes([2 if atr else 0]),
        _ICC_INTERFACE_STATUS: bytes([powered]),
        _ICC_TYPE_PER_ATR: bytes([bool(atr)]),
        # Texts have their NUL: OpenSC prints all of a buffer that it never cleared.
        0x00010100: b"vccid\0",  # VENDOR_NAME
        0x00010102: _NUMBER.pack(_VERSION),  # VENDOR_IFD_VERSION
        0x00010103: serial.encode("ascii") + b"\0" if serial else None,  # VENDOR_IFD_SERIAL_NO
        0x0007A007: _NUMBER.pack(DATA_MAX),  # MAXINPUT
        # DEVICE_FRIENDLY_NAME_A, DEVICE_SYSTEM_NAME_A: pcscd's own answer
        **dict.fromkeys(_NAMES, name + b"\0"),
    }
    return values.get(number)
