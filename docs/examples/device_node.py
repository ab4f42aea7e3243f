#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Send command APDUs to a card through its device node, and print the responses.

device_node.py /dev/vccid/vccid0 00A4040007A000000116DB00 00C000000D
"""

import fcntl
import os
import struct
import sys

# As include/vccid.h has them: struct vccid_atr, struct vccid_presence, _IOR and _IO.
ATR = struct.Struct("B33s")
PRESENCE = struct.Struct("=II")
VCCID_GET_ATR = 2 << 30 | ATR.size << 16 | 0xDC << 8 | 1
VCCID_RESET = 0xDC << 8 | 2
VCCID_GET_PRESENCE = 2 << 30 | PRESENCE.size << 16 | 0xDC << 8 | 3

#: 65,536 bytes and SW1 SW2
LONGEST_RESPONSE = 65_538


class Card:
    """A session with the card: it begins with the open and ends with the close."""

    def __init__(self, node: str) -> None:
        self._file = os.open(node, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._file)

    @property
    def atr(self) -> bytes:
        length, padded = ATR.unpack(fcntl.ioctl(self._file, VCCID_GET_ATR, bytes(ATR.size)))
        return padded[:length]

    @property
    def present(self) -> bool:
        """Whether a card is in the reader, be it another by now."""
        raw = fcntl.ioctl(self._file, VCCID_GET_PRESENCE, bytes(PRESENCE.size))
        return PRESENCE.unpack(raw)[0] == 1

    def reset(self) -> None:
        """Begin the session anew, with the card that is in now."""
        fcntl.ioctl(self._file, VCCID_RESET)

    def transmit(self, command: bytes) -> bytes:
        """The response, SW1 SW2 at its end."""
        os.write(self._file, command)
        return os.read(self._file, LONGEST_RESPONSE)


def main() -> None:
    node, *commands = sys.argv[1:] or ["/dev/vccid/vccid0"]
    card = Card(node)
    print("ATR", card.atr.hex(" ").upper())
    for command in commands:
        print(command, "->", card.transmit(bytes.fromhex(command)).hex(" ").upper())
    card.close()


if __name__ == "__main__":
    main()
