# SPDX-License-Identifier: LGPL-2.1-or-later
"""The serial line of a GemPC Twin: CCID messages in frames (libccid: src/ccid_serial.c).

    SYNC 03 | ACK 06 | message, 10 + dwLength bytes | LRC, the XOR of all bytes before it

The reader sends each command back, then its answer. While it needs time it sends single bytes
from 80h on. The host empties its line only when it opens it, so a byte it does not wait for puts
it out of step for good. Therefore nothing is ever said to what is no frame, though a reader
could send NAK, 03 15 16: on these lines nothing is damaged on the way, and who writes garbage
is another than the host.
"""

from __future__ import annotations

import struct
from functools import reduce
from operator import xor
from typing import Final

_SYNC: Final = 0x03
_ACK: Final = 0x06
_START: Final = bytes((_SYNC, _ACK))

#: bMessageType, dwLength: as much of a message as tells its length (CCID rev 1.1, 6.1).
_LENGTH: Final = struct.Struct("<BI")
_HEADER_SIZE: Final = 10
_ESCAPE: Final = 0x6B

#: dwMaxCCIDMessageLength: a short APDU behind its header.
LONGEST_MESSAGE: Final = 271


def frame(message: bytes) -> bytes:
    """A message as it stands on the line, in either direction."""
    raw = _START + message
    return raw + bytes((reduce(xor, raw),))


def echo(message: bytes) -> bytes:
    """What comes back of a command.

    libccid passes it over, but wants it to fit where the answer will go; and a PC_to_RDR_Escape
    may be longer than its answer. So of that only the header comes back.
    """
    if message[0] == _ESCAPE:
        message = message[:1] + bytes(4) + message[5:_HEADER_SIZE]
    return frame(message)


def time_request(multiplier: int) -> bytes:
    """The answer takes longer: `multiplier` more waiting times, 1 to 127.

    A frame that asks for more time as USB has it would be taken for the echo of the next command.
    """
    return bytes((0x80 | min(multiplier, 0x7F),))


class Receiver:
    """What a host sends: messages out of a stream of bytes, cut in any way."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def is_waiting(self) -> bool:
        """A frame has begun and not ended."""
        return bool(self._buffer)

    def reset(self) -> None:
        """The line was flushed or opened anew: what has begun is over."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now."""
        self._buffer += data
        messages: list[bytes] = []
        while self._find_start():
            length = _LENGTH.unpack_from(self._buffer, len(_START))[1]
            end = len(_START) + _HEADER_SIZE + length + 1
            possible = _HEADER_SIZE + length <= LONGEST_MESSAGE
            if possible and len(self._buffer) < end:
                break
            if possible and not reduce(xor, self._buffer[:end]):
                messages.append(bytes(self._buffer[len(_START) : end - 1]))
                del self._buffer[:end]
            else:  # it only looked like a frame; the host's own may be within
                del self._buffer[:1]
        return messages

    def silence(self) -> list[bytes]:
        """Nothing came for long: what has begun is no frame. The messages that were within."""
        messages: list[bytes] = []
        while self._buffer:
            del self._buffer[:1]
            messages += self.feed(b"")
        return messages

    def _find_start(self) -> bool:
        """Drop what is before a frame; whether its length is there."""
        while self._buffer and not _START.startswith(self._buffer[:2]):
            at = self._buffer.find(_SYNC, 1)
            del self._buffer[: at if at > 0 else len(self._buffer)]
        return len(self._buffer) >= len(_START) + _LENGTH.size
