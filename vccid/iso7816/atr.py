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

#: The same of a CAC, and of one that is a PIV card too: Windows keeps one card's kind for each ATR.
CAC_T1_ATR: Final = bytes.fromhex("3BF913000081 31FE45 8031C173C021C0 5143 D1")
CAC_PIV_ATR: Final = bytes.fromhex("3BFA13000081 31FE45 8031C173C021C0 524350 81")

#: The same card where it is not touched by contacts (PC/SC part 3, 3.1.3.2.3.1).
CONTACTLESS_ATR: Final = bytes.fromhex("3B878001 8031C173C021C0 24")
#: T=0 and T=1, of an alternate token: a PIV card without a CAC's applets, which OpenSC's table has.
ALTERNATE_TOKEN_ATR: Final = bytes.fromhex("3BD8180080 B1FE451F07 8031C1640806920F D5")

_MAX_LENGTH: Final = 33

#: FI and DI values that are not RFU (ISO/IEC 7816-3, tables 7 and 8).
FI: Final = frozenset((0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13))
DI: Final = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 9))

#: Protocols that readers here carry.
_CARRIED: Final = (0, 1)


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


def fault_of(atr: Atr) -> str:
    """ "" where a reader of ours can do what an answer to reset offers, else what it must offer.

    The rules are those by which readers here read it: protocols, Fi and Di, T=1's own bytes, and
    classes of operating conditions.
    """
    interface, own = atr.interface, atr.specific(1)
    usable = atr.protocols if atr.is_negotiable else (atr.first_protocol,)
    if not set(usable) & set(_CARRIED) or atr.first_protocol not in _CARRIED:
        return "one that begins with T=0 or T=1; readers here carry no other protocol"
    findex_dindex = interface.get("TA1", 0x11)
    if findex_dindex >> 4 not in FI or findex_dindex & 0x0F not in DI:
        return f"one whose TA1 has Fi and Di of the standard's tables, not {findex_dindex:02X}"
    if not 0x01 <= own.get("A", 0x20) <= 0xFE:
        return f"one whose IFSC of T=1 is 01 to FE, not {own['A']:02X}"
    if own.get("B", 0x4D) >> 4 > 9:
        return f"one whose BWI of T=1 is 0 to 9, not {own['B'] >> 4:X}"
    if own.get("C", 0) & 0xFE:
        return f"one whose TC of T=1 is 00 (LRC) or 01 (CRC), not {own['C']:02X}"
    if "TC2" in interface and interface["TC2"] == 0:
        return "one whose TC2, T=0's waiting integer, is not 00"
    return ""


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
