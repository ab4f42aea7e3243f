# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIMPLE-TLV (GSC-IS 2.1, 8.4), written apart from the code it tests."""

from __future__ import annotations

import itertools


def simple_tlv(data: bytes) -> list[tuple[int, bytes]]:
    """Tags and values, taken apart."""
    items = []
    stream = iter(data)
    for tag in stream:
        length = next(stream)
        if length == 0xFF:
            length = next(stream) + 256 * next(stream)
        value = bytes(itertools.islice(stream, length))
        assert len(value) == length, "cut short"
        items.append((tag, value))
    return items
