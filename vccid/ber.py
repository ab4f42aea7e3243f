# SPDX-License-Identifier: LGPL-2.1-or-later
"""As much of ASN.1's basic encoding (ITU-T X.690, 8.1) as is read here without OpenSSL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

INTEGER, OCTET_STRING, OBJECT_IDENTIFIER, SEQUENCE = 0x02, 0x04, 0x06, 0x30

_CONSTRUCTED: Final = 0x20
_INDEFINITE: Final = 0x80
_END: Final = b"\0\0"
#: Deeper than any certificate, shallower than Python's stack.
_DEEPEST: Final = 32


@dataclass(frozen=True, slots=True)
class Element:
    """A data value.

    Attributes:
        tag: its identifier octet.
        content: what is in it, without the end-of-contents octets.
        encoded: all of it.
    """

    tag: int
    content: bytes
    encoded: bytes

    def parts(self) -> list[Element]:
        """What a constructed one is made of.

        Raises:
            ValueError: it is not.
        """
        return list(elements(self.content))


def elements(data: bytes) -> Iterator[Element]:
    """The data values one after another.

    Raises:
        ValueError: these are none.
    """
    while data:
        first = _element(data, 0)
        data = data[len(first.encoded) :]
        yield first


def first_element(data: bytes) -> Element | None:
    """The first data value, None where there is none."""
    try:
        return next(elements(data), None)
    except ValueError:
        return None


def _element(data: bytes, depth: int) -> Element:
    if len(data) < 2 or data[0] & 0x1F == 0x1F or depth > _DEEPEST:
        raise ValueError("no tag that is known here")
    tag, length, start = data[0], data[1], 2
    if length == _INDEFINITE:
        if not tag & _CONSTRUCTED:
            raise ValueError("an indefinite length of a primitive")
        return _indefinite(data, depth)
    if length > _INDEFINITE:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut short")
    return Element(tag, data[start : start + length], data[: start + length])


def _indefinite(data: bytes, depth: int) -> Element:
    end = 2
    while data[end : end + 2] != _END:
        end += len(_element(data[end:], depth + 1).encoded)
    return Element(data[0], data[2:end], data[: end + 2])
