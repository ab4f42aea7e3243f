# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host's end of T=1, read from the standard by itself: it shares no code with the card's.

ISO/IEC 7816-3:2006, 11.6.3.2; the rules by their numbers there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import xor

#: Sends a block and gets one, either of them damaged or not.
Line = Callable[[bytes], bytes]


def lrc_block(pcb: int, information: bytes = b"") -> bytes:
    raw = bytes((0, pcb, len(information))) + information
    return raw + bytes((reduce(xor, raw),))


class Host:
    """Sends commands and assembles answers; a damaged block is asked for again."""

    def __init__(self, line: Line, ifsc: int = 254) -> None:
        self.line = line
        self.ifsc = ifsc
        self.ns = 0
        self.nr = 0

    def ask_ifsd(self, size: int) -> None:
        """S(IFS request), until it is answered."""
        while self.line(lrc_block(0xC1, bytes((size,)))) != lrc_block(0xE1, bytes((size,))):
            continue

    def command(self, apdu: bytes) -> bytes:
        parts = [apdu[at : at + self.ifsc] for at in range(0, len(apdu), self.ifsc)]
        answer = b""
        sent = self._part(parts)
        while True:
            raw = self.line(sent)
            if reduce(xor, raw, 0) or len(raw) < 4 or raw[2] != len(raw) - 4:
                # Rules 7.1 and 7.2: say so, or repeat the R-block that was sent.
                if sent[1] & 0xC0 != 0x80:
                    sent = lrc_block(0x81 | self.nr << 4)
                continue
            pcb, information = raw[1], raw[3:-1]
            if pcb & 0xC0 == 0xC0:  # S(… request): rule 3
                assert pcb == 0xC3
                sent = lrc_block(0xE3, information)
            elif pcb & 0x80:
                acknowledged = bool(parts) and pcb >> 4 & 1 != self.ns
                if not parts or (acknowledged and len(parts) == 1):
                    assert sent[1] & 0xC0 == 0x80, "nothing but an answer follows the last part"
                    continue  # rule 7.2: our R-block came damaged
                if acknowledged:  # rule 2.2
                    parts.pop(0)
                    self.ns ^= 1
                sent = self._part(parts)
            else:
                assert pcb >> 6 & 1 == self.nr, "the card's I-block is out of turn"
                if parts:
                    assert len(parts) == 1, "the card answers before it has all"
                    parts.pop()
                    self.ns ^= 1
                self.nr ^= 1
                answer += information
                if not pcb & 0x20:
                    return answer
                sent = lrc_block(0x80 | self.nr << 4)

    def _part(self, parts: list[bytes]) -> bytes:
        more = 0x20 if len(parts) > 1 else 0
        return lrc_block(self.ns << 6 | more, parts[0])
