# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIMPLE-TLV as GSC-IS 2.1 uses it (section 8.4): a length of three bytes is little-endian.

A tag is one byte, 01 to FE. A length is one byte, 00 to FE, or FF and two bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from vccid.errors import RemoteProtocolError

#: The longest value; libcacard takes FF FF FF for no length either.
MAX_VALUE: Final = 0xFFFE

#: The most bytes a T or V buffer holds behind its own two bytes of length.
MAX_BUFFER: Final = 0xFFFF


def encode_header(tag: int, length: int) -> bytes:
    """Tag and length alone, as they stand in a T buffer."""
    if not (0 < tag < 0xFF and 0 <= length <= MAX_VALUE):
        raise ValueError(f"no SIMPLE-TLV has tag {tag:#x} and length {length}")
    if length < 0xFF:
        return bytes((tag, length))
    return bytes((tag, 0xFF)) + length.to_bytes(2, "little")


def encode(tag: int, value: bytes) -> bytes:
    """One data object: tag, length, value."""
    return encode_header(tag, len(value)) + value


def encode_all(items: Iterable[tuple[int, bytes]]) -> bytes:
    """Data objects one after another."""
    return b"".join(encode(tag, value) for tag, value in items)


def parse(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The data objects in a string, in order.

    Raises:
        RemoteProtocolError: a tag that cannot be, or less behind a length than it says.
    """
    at = 0
    while at < len(data):
        tag = data[at]
        if tag in (0x00, 0xFF):
            raise RemoteProtocolError(f"SIMPLE-TLV tag {tag:02X} at byte {at}")
        length_size = 3 if data[at + 1 : at + 2] == b"\xff" else 1
        length_field = data[at + 1 : at + 1 + length_size]
        start = at + 1 + length_size
        length = int.from_bytes(length_field[-2:], "little")
        if len(length_field) < length_size or length > MAX_VALUE or start + length > len(data):
            raise RemoteProtocolError(f"SIMPLE-TLV tag {tag:02X} at byte {at} is cut short")
        at = start + length
        yield tag, data[start:at]


def buffers(items: Iterable[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """The T buffer (tags and lengths) and the V buffer (values) of an object.

    Each begins with the count of the bytes behind, two bytes, little-endian (GSC-IS 2.1, 8.4).

    Raises:
        ValueError: more than `MAX_BUFFER` bytes in one.
    """
    tags, values = bytearray(), bytearray()
    for tag, value in items:
        tags += encode_header(tag, len(value))
        values += value
    if max(len(tags), len(values)) > MAX_BUFFER:
        raise ValueError(f"an object holds {len(tags)} and {len(values)} bytes")
    return (
        len(tags).to_bytes(2, "little") + tags,
        len(values).to_bytes(2, "little") + values,
    )
