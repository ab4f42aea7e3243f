# SPDX-License-Identifier: LGPL-2.1-or-later
"""Blocks of the transmission protocol T=1 (ISO/IEC 7816-3:2006, 11.3).

NAD | PCB | LEN | information, LEN bytes, 0 to 254 | EDC, one byte or two
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import reduce
from operator import xor
from typing import Final

from vccid.errors import RemoteProtocolError

#: The longest information field, and the size at first (11.4.2).
LONGEST_INFORMATION: Final = 254
FIRST_SIZE: Final = 32

# PCB (11.3.2.2): I-block 0 N(S) M 00000, R-block 100 N(R) and an error, S-block 11 and its kind.
MORE: Final = 0x20
R_BLOCK: Final = 0x80
S_BLOCK: Final = 0xC0
S_RESPONSE: Final = 0x20

EDC_ERROR: Final = 1
OTHER_ERROR: Final = 2

RESYNCH: Final = 0
IFS: Final = 1
ABORT: Final = 2
WTX: Final = 3
#: Bytes of information of each S-block.
_S_LENGTHS: Final = {RESYNCH: 0, IFS: 1, ABORT: 0, WTX: 1}


class Edc(IntEnum):
    """How a block is secured (11.3.4): bit 0 of TC for T=1. The value is the size less 1."""

    LRC = 0
    CRC = 1

    @property
    def size(self) -> int:
        return self + 1

    def compute(self, raw: bytes) -> bytes:
        """The EDC of prologue and information."""
        if self is Edc.LRC:
            return bytes((reduce(xor, raw, 0),))
        # ISO/IEC 13239's polynomial. libccid and openct send the register as it is, high byte
        # first; that standard's frames complement it.
        register = 0xFFFF
        for byte in raw:
            register = register >> 8 ^ _CRC_TABLE[(register ^ byte) & 0xFF]
        return register.to_bytes(2, "big")


class BadBlock(RemoteProtocolError):
    """An invalid block.

    Attributes:
        error: for the R-block that says so: `EDC_ERROR` or `OTHER_ERROR`.
    """

    def __init__(self, error: int, message: str) -> None:
        super().__init__(message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Block:
    """One block.

    Attributes:
        nad: node address, SAD in the low nibble and DAD in the high one.
        information: may hold a PIN and is never shown.
    """

    nad: int
    pcb: int
    information: bytes = field(default=b"", repr=False)

    @classmethod
    def parse(cls, raw: bytes, edc: Edc) -> Block:
        """Take one whole block.

        Raises:
            BadBlock: it is damaged, or no block there can be.
        """
        end = len(raw) - edc.size
        if end < 3 or raw[end:] != edc.compute(raw[:end]):
            raise BadBlock(EDC_ERROR, "a block with a wrong EDC")
        nad, pcb, length = raw[:3]
        if length != end - 3 or length > LONGEST_INFORMATION:
            raise BadBlock(OTHER_ERROR, f"a block of {end - 3} bytes with LEN {length:02X}")
        # 11.3.2.1: bits 8 and 4 drove VPP once; SAD and DAD differ unless both are 0.
        if nad & 0x88 or (nad and nad >> 4 == nad & 0x0F):
            raise BadBlock(OTHER_ERROR, f"NAD {nad:02X}")
        if not _is_pcb(pcb, length):
            raise BadBlock(OTHER_ERROR, f"PCB {pcb:02X} with LEN {length:02X}")
        return cls(nad, pcb, raw[3:end])

    def serialize(self, edc: Edc) -> bytes:
        """The whole block."""
        raw = bytes((self.nad, self.pcb, len(self.information))) + self.information
        return raw + edc.compute(raw)

    @property
    def is_information(self) -> bool:
        """An I-block."""
        return not self.pcb & R_BLOCK

    @property
    def is_ready(self) -> bool:
        """An R-block."""
        return self.pcb & S_BLOCK == R_BLOCK

    @property
    def number(self) -> int:
        """N(S) of an I-block, N(R) of an R-block."""
        return self.pcb >> (6 if self.is_information else 4) & 1


def _is_pcb(pcb: int, length: int) -> bool:
    if not pcb & R_BLOCK:
        return not pcb & 0x1F
    if pcb & S_BLOCK == R_BLOCK:
        return not pcb & 0x20 and pcb & 0x0F <= OTHER_ERROR and length == 0
    return _S_LENGTHS.get(pcb & 0x1F) == length


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return value


_CRC_TABLE: Final = tuple(map(_crc_entry, range(256)))
