# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Cardholder Facial Image: a picture in a face record, in a signed CBEFF structure.

SP 800-73-5 part 1, 3.1.6; SP 800-76-2, 7 (the face record of INCITS 385-2004) and 9 (the patron
format of PIV); FIPS 201-3, 4.2.3.1.
"""

from __future__ import annotations

import datetime
import struct
from dataclasses import dataclass
from typing import Final

from vccid.card.piv.contents import Issuer
from vccid.card.piv.data_model import MAX_OBJECT
from vccid.card.piv.fascn import FascN
from vccid.card.piv.signing import BIOMETRIC_CONTENT, ENTRY_UUID, PIV_FASC_N, signed_data
from vccid.errors import VccidError
from vccid.iso7816 import ber

_JPEG, _JPEG_2000 = 0, 1

#: Bytes of a picture; the rest is for headers, the signature and its attributes.
MOST: Final = MAX_OBJECT - 2048

#: How a file of JPEG 2000 begins (ISO/IEC 15444-1, I.5.1), and its codestream (A.2).
_JP2: Final = bytes.fromhex("0000000C6A5020200D0A870A")
_CODESTREAM: Final = bytes.fromhex("FF4FFF51")

#: Version, security options (signed), lengths, format owner and type, dates, biometric and data
#: type, quality, creator, FASC-N, reserved: 88 bytes.
_PATRON_HEADER: Final = struct.Struct(">BBIHHH8s8s8s3sBb18s25s4s")
#: Format, version, length of the record, one picture.
_FACE_HEADER: Final = struct.Struct(">4s4sIH")
#: Length of the block, feature points, what is not told of the person, and a neutral expression.
_FACE_INFORMATION: Final = struct.Struct(">IHBBB3sH3s3s")
#: Full frontal, encoding, size, sRGB, a camera's, device, quality.
_IMAGE_INFORMATION: Final = struct.Struct(">BBHHBBHH")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a format that a face record can hold.

    Attributes:
        data: the file's.
        encoding: 0 for JPEG, 1 for JPEG 2000.
        width: pixels.
        height: likewise.
    """

    data: bytes
    encoding: int
    width: int
    height: int

    @classmethod
    def parse(cls, data: bytes) -> Picture:
        """Tell a picture from anything else.

        Raises:
            VccidError: it is neither JPEG nor JPEG 2000, or too large for a card.
        """
        size = _jpeg_size(data)
        encoding = _JPEG
        if size is None:
            size, encoding = _jpeg_2000_size(data), _JPEG_2000
        if size is None or not all(0 < side < 1 << 16 for side in size):
            raise VccidError(
                "the picture is neither JPEG nor JPEG 2000", "a PIV card's face is one of these"
            )
        if len(data) > MOST:
            raise VccidError(
                f"the picture has {len(data)} bytes, and a PIV card room for {MOST}",
                "make it smaller; cards that are issued have some 12000",
            )
        return cls(data, encoding, *size)


def facial_image(
    picture: Picture, guid: bytes, issuer: Issuer, start: datetime.datetime, end: datetime.datetime
) -> bytes:
    """The object's content, signed by the card's issuer.

    Args:
        picture: what it shows.
        guid: the card's UUID.
        issuer: who signs.
        start: when it was taken, as far as anybody is told; UTC.
        end: until when it is good; UTC.
    """
    record = _face_record(picture)
    attributes = [(PIV_FASC_N, FascN().encode()), (ENTRY_UUID, guid)]
    signed, signature, size = b"", b"", 1
    # What is signed has the signature's length in it, which is another every other time.
    while len(signature) != size:
        size = len(signature)
        signed = _header(len(record), size, start, end) + record
        signature = signed_data(
            issuer,
            BIOMETRIC_CONTENT,
            signed,
            detached=True,
            certificate=False,
            attributes=attributes,
        )
    return ber.encode_all([(0xBC, signed + signature), (0xFE, b"")])


def _header(record: int, signature: int, start: datetime.datetime, end: datetime.datetime) -> bytes:
    """CBEFF's patron format of PIV (SP 800-76-2, table 14)."""
    return _PATRON_HEADER.pack(
        0x03,  # version
        0x0D,  # signed, not encrypted
        record,
        signature,
        0x001B,  # INCITS M1
        0x0501,  # a face record
        _date(start),
        _date(start),
        _date(end),
        b"\x00\x00\x02",  # facial features
        0x20,  # raw: a picture, as it was taken
        -2,  # quality: not told
        b"vccid",
        FascN().encode(),
        bytes(4),
    )


def _face_record(picture: Picture) -> bytes:
    image = _IMAGE_INFORMATION.pack(1, picture.encoding, picture.width, picture.height, 1, 2, 0, 0)
    block = _FACE_INFORMATION.size + len(image) + len(picture.data)
    information = _FACE_INFORMATION.pack(block, 0, 0, 0, 0, bytes(3), 1, bytes(3), bytes(3))
    header = _FACE_HEADER.pack(b"FAC\0", b"010\0", _FACE_HEADER.size + block, 1)
    return header + information + image + picture.data


def _date(moment: datetime.datetime) -> bytes:
    """YYYYMMDDhhmmss in binary coded decimals, and Z."""
    return bytes.fromhex(moment.strftime("%Y%m%d%H%M%S").zfill(14)) + b"Z"


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the frame header (ISO/IEC 10918-1, B.2.2); None where there is none."""
    at = 2
    if data[:2] != b"\xff\xd8":
        return None
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + length
    return None


def _jpeg_2000_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the codestream's SIZ (ISO/IEC 15444-1, A.5.1)."""
    at = data.find(_CODESTREAM)
    if at < 0 or (at and not data.startswith(_JP2)) or at + 24 > len(data):
        return None
    width, height, left, top = struct.unpack_from(">IIII", data, at + 8)
    return width - left, height - top
