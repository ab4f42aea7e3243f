# SPDX-License-Identifier: LGPL-2.1-or-later
"""BER-TLV data objects (ISO/IEC 7816-4:2020, 6.3): tags of 1 to 3 bytes, definite lengths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from vccid.errors import RemoteProtocolError

#: Lengths that are met in a command or on a card take at most this many bytes after 8n.
_MAX_LENGTH_BYTES: Final = 3


def encode_length(length: int) -> bytes:
    """A length, coded as short as can be."""
    if length < 0x80:
        return bytes((length,))
    size = (length.bit_length() + 7) // 8
    return bytes((0x80 | size,)) + length.to_bytes(size, "big")


def encode(tag: int, value: bytes) -> bytes:
    """One data object; the tag's bytes are the number's, big-endian."""
    size = max(1, (tag.bit_length() + 7) // 8)
    return tag.to_bytes(size, "big") + encode_length(len(value)) + value


def encode_all(items: Iterable[tuple[int, bytes]]) -> bytes:
    """Data objects one after another."""
    return b"".join(encode(tag, value) for tag, value in items)


def parse(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The data objects in a string, in order; nothing may stand between or behind them.

    Raises:
        RemoteProtocolError: a tag or length that cannot be, or less behind it than it says.
    """
    at = 0
    while at < len(data):
        tag, at = _tag(data, at)
        length, at = _length(data, at)
        if at + length > len(data):
            raise RemoteProtocolError(f"BER-TLV tag {tag:X} is cut short")
        yield tag, data[at : at + length]
        at += length


def only(data: bytes) -> tuple[int, bytes]:
    """The one data object a string is.

    Raises:
        RemoteProtocolError: it is none, or there is more.
    """
    found = list(parse(data))
    if len(found) != 1:
        raise RemoteProtocolError(f"{len(found)} data objects where there is to be one")
    return found[0]


def _tag(data: bytes, at: int) -> tuple[int, int]:
    """6.3: the low five bits all set say that more bytes follow, each but the last with bit 8."""
    start, first = at, data[at]
    at += 1
    if first & 0x1F == 0x1F:
        while at < len(data) and data[at] & 0x80:
            at += 1
        at += 1
    if at > len(data) or at - start > 3:
        raise RemoteProtocolError(f"BER-TLV tag at byte {start} is cut short or too long")
    return int.from_bytes(data[start:at], "big"), at


def _length(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise RemoteProtocolError("BER-TLV ends before a length")
    first = data[at]
    at += 1
    if first < 0x80:
        return first, at
    size = first & 0x7F
    if not 1 <= size <= _MAX_LENGTH_BYTES or at + size > len(data):
        raise RemoteProtocolError(f"BER-TLV length at byte {at - 1} is cut short or unfit")
    return int.from_bytes(data[at : at + size], "big"), at + size
