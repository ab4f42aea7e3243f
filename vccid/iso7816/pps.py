# SPDX-License-Identifier: LGPL-2.1-or-later
"""Protocol and parameters selection (ISO/IEC 7816-3:2006, section 9).

PPSS FF | PPS0 | PPS1, PPS2, PPS3 as PPS0 says | PCK, all bytes together XOR to 00
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Final

_PPSS: Final = 0xFF
#: PPS0: PPS1 to PPS3 follow (bits 5 to 7); bit 8 is RFU.
_FOLLOW: Final = (0x10, 0x20, 0x40)


@dataclass(frozen=True, slots=True)
class Pps:
    """A request or its response.

    Attributes:
        protocol: T.
        findex_dindex: PPS1, coded as TA1; None where it is absent, that is 11.
    """

    protocol: int
    findex_dindex: int | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Pps | None:
        """A request, or None where the bytes are none. PPS2 and PPS3 are passed over."""
        if len(raw) < 3 or raw[0] != _PPSS or raw[1] & 0x80 or reduce(xor, raw):
            return None
        if len(raw) != 3 + sum(bool(raw[1] & bit) for bit in _FOLLOW):
            return None
        return cls(raw[1] & 0x0F, raw[2] if raw[1] & _FOLLOW[0] else None)

    def serialize(self) -> bytes:
        """The whole message, without PPS2 and PPS3."""
        raw = bytes((_PPSS, self.protocol))
        if self.findex_dindex is not None:
            raw = bytes((_PPSS, self.protocol | _FOLLOW[0], self.findex_dindex))
        return raw + bytes((reduce(xor, raw),))
