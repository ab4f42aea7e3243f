# SPDX-License-Identifier: LGPL-2.1-or-later
"""Answer to reset (ISO/IEC 7816-3:2006, section 8.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Final

from vccid.errors import RemoteProtocolError

#: libcacard's: T=0 alone, historical bytes "sfte cd144".
LIBCACARD_ATR: Final = bytes.fromhex("3B7A18000073667465206364313434")

#: T=1 with extended length and command chaining announced, otherwise neutral.
T1_ATR: Final = bytes.fromhex("3BF71300008131FE458031C173C021C0CD")

#: The same of a card that is a CAC and a PIV card, for Windows keeps one card's kind for each ATR.
CAC_PIV_ATR: Final = bytes.fromhex("3BFA13000081 31FE45 8031C173C021C0 524350 81")

_MAX_LENGTH: Final = 33


@dataclass(frozen=True, slots=True)
class Atr:
    """An answer to reset taken apart.

    Attributes:
        raw: all of it, 2 to 33 bytes, TS and TCK included.
        interface: TAi, TBi, TCi, TDi by name, such as {"TA1": 0x18}.
        historical: T1 to TK, 0 to 15 bytes.
        protocols: the T of each protocol offered, in order, 15 left out; never empty.
    """

    raw: bytes
    interface: dict[str, int]
    historical: bytes
    protocols: tuple[int, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Atr:
        """Take an answer to reset apart.

        Raises:
            RemoteProtocolError: too short, too long, or its check byte TCK is wrong,
                missing, or there without need.
        """
        if not 2 <= len(raw) <= _MAX_LENGTH or raw[0] not in (0x3B, 0x3F):
            raise RemoteProtocolError(f"no answer to reset: {raw[:_MAX_LENGTH].hex(' ')}")
        interface, at = _interface_bytes(raw)
        end = at + (raw[1] & 0x0F)
        offered = [interface[name] & 0x0F for name in interface if name.startswith("TD")]
        # 8.2.5: TCK is absent when T=0 alone is offered, and present in all other cases.
        has_tck = any(offered)
        if len(raw) != end + has_tck:
            raise RemoteProtocolError(f"answer to reset of {len(raw)} bytes, not {end + has_tck}")
        if has_tck and reduce(xor, raw[1:]) != 0:
            raise RemoteProtocolError(f"answer to reset with a wrong check byte {raw[-1]:02X}")
        protocols = tuple(dict.fromkeys(number for number in offered if number != 15)) or (0,)
        return cls(raw, interface, raw[at:end], protocols)

    @property
    def is_negotiable(self) -> bool:
        """Whether PPS may change the protocol: TA2 is absent (6.3.1)."""
        return "TA2" not in self.interface

    @property
    def first_protocol(self) -> int:
        """The T in force until PPS: TA2's, or that offered first (6.3.1, 8.2.3)."""
        return self.interface["TA2"] & 0x0F if "TA2" in self.interface else self.protocols[0]

    def specific(self, protocol: int) -> dict[str, int]:
        """By letter, the first such interface byte behind a TDi that names the protocol (8.3).

        Those behind TD1 are global but for TC2, which is always T=0's; 15 has the global ones.
        """
        found: dict[str, int] = {}
        for name, value in self.interface.items():
            letter, number = name[1], int(name[2:])
            if number > 2 and self.interface[f"TD{number - 1}"] & 0x0F == protocol:
                found.setdefault(letter, value)
        return found


def _interface_bytes(raw: bytes) -> tuple[dict[str, int], int]:
    """TA1 and on, by name, and where the historical bytes begin (8.2.3)."""
    interface: dict[str, int] = {}
    at, present, index = 2, raw[1] >> 4, 1
    while present:
        for bit, letter in enumerate("ABCD"):
            if present & (1 << bit):
                if at >= len(raw):
                    raise RemoteProtocolError(f"answer to reset ends before T{letter}{index}")
                interface[f"T{letter}{index}"] = raw[at]
                at += 1
        present = interface.get(f"TD{index}", 0) >> 4
        index += 1
    return interface, at
