# SPDX-License-Identifier: LGPL-2.1-or-later
"""The protocol between vpcd, a virtual reader, and vicc, a card (vsmartcard: virtualsmartcard/src).

A frame is a length of two bytes, big-endian, and that many bytes. From the reader, a frame of one
byte is a control, a longer one a command APDU. From the card come answers alone: an ATR, a
response APDU. A card is in for as long as its connection; there are no versions and no errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from vccid.errors import LocalProtocolError

#: The port of vpcd's first slot; the next slots have the next ones.
PORT: Final = 35963
#: Most bytes of a frame's data.
LONGEST: Final = 0xFFFF
_LENGTH_SIZE: Final = 2


class Control(IntEnum):
    """What a frame of one byte asks for; the card answers to ATR alone."""

    OFF = 0
    ON = 1
    RESET = 2
    ATR = 4


def serialize(data: bytes) -> bytes:
    """One frame. Write it at once: vicc reads a frame with two calls and no loop.

    Raises:
        LocalProtocolError: it is empty, which vpcd waits at for ever, or too long.
    """
    if not 0 < len(data) <= LONGEST:
        raise LocalProtocolError(f"a vpcd frame of {len(data)} bytes")
    return len(data).to_bytes(_LENGTH_SIZE, "big") + data


class Parser:
    """Frames out of a stream, however it is cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The data of each frame that is whole now."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH_SIZE:
            end = _LENGTH_SIZE + int.from_bytes(buffer[:_LENGTH_SIZE], "big")
            if len(buffer) < end:
                return
            frame = bytes(buffer[_LENGTH_SIZE:end])
            del buffer[:end]
            yield frame
