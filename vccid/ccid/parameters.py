# SPDX-License-Identifier: LGPL-2.1-or-later
"""Protocol parameters: what an ATR offers, and the structures a host reads and sets.

CCID rev 1.1, 6.1.7; ISO/IEC 7816-3:2006, 8.2, 8.3, 10.2 and 11.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from vccid.ccid.codes import Error, Protocol
from vccid.ccid.messages import Refused
from vccid.errors import RemoteProtocolError
from vccid.iso7816.atr import DI, FI, Atr


@dataclass(frozen=True, slots=True)
class ParametersT0:
    """abProtocolDataStructure for T=0, 5 bytes; the defaults are the standard's."""

    findex_dindex: int = 0x11
    tccks: int = 0x00
    guard_time: int = 0x00
    waiting_integer: int = 0x0A
    clock_stop: int = 0x00

    PROTOCOL: ClassVar = Protocol.T0
    STRUCT: ClassVar[struct.Struct] = struct.Struct("<5B")

    @classmethod
    def parse(cls, raw: bytes) -> ParametersT0:
        """Read 5 bytes.

        Raises:
            Refused: with the offset in the message of the first wrong field.
        """
        parameters = cls(*cls.STRUCT.unpack(raw))
        _check_line(parameters.findex_dindex, parameters.tccks & ~0x02)
        if parameters.waiting_integer == 0:
            raise Refused(Error.BAD_WAITING_INTEGERS)  # ISO/IEC 7816-3, 10.2: 0 is RFU
        if parameters.clock_stop > 3:
            raise Refused(Error.BAD_CLOCK_STOP)
        return parameters

    def serialize(self) -> bytes:
        """The 5 bytes."""
        return self.STRUCT.pack(
            self.findex_dindex, self.tccks, self.guard_time, self.waiting_integer, self.clock_stop
        )


@dataclass(frozen=True, slots=True)
class ParametersT1:
    """abProtocolDataStructure for T=1, 7 bytes; the defaults are the standard's."""

    findex_dindex: int = 0x11
    tccks: int = 0x10
    guard_time: int = 0x00
    waiting_integers: int = 0x4D
    clock_stop: int = 0x00
    ifsc: int = 0x20
    nad: int = 0x00

    PROTOCOL: ClassVar = Protocol.T1
    STRUCT: ClassVar[struct.Struct] = struct.Struct("<7B")

    @classmethod
    def parse(cls, raw: bytes, *, nad: bool = False) -> ParametersT1:
        """Read 7 bytes.

        Args:
            nad: dwFeatures 200h is announced: any node address will do.

        Raises:
            Refused: with the offset in the message of the first wrong field.
        """
        parameters = cls(*cls.STRUCT.unpack(raw))
        _check_line(parameters.findex_dindex, parameters.tccks & ~0x03 ^ 0x10)
        if parameters.waiting_integers >> 4 > 9:
            raise Refused(Error.BAD_WAITING_INTEGERS)  # ISO/IEC 7816-3, 11.4.3: BWI 0 to 9
        if parameters.clock_stop > 3:
            raise Refused(Error.BAD_CLOCK_STOP)
        if not 0x01 <= parameters.ifsc <= 0xFE:
            raise Refused(Error.BAD_IFSC)
        if parameters.nad != 0 and not nad:
            raise Refused(Error.BAD_NAD)
        return parameters

    def serialize(self) -> bytes:
        """The 7 bytes."""
        return self.STRUCT.pack(
            self.findex_dindex, self.tccks, self.guard_time, self.waiting_integers,
            self.clock_stop, self.ifsc, self.nad,
        )  # fmt: skip


Parameters = ParametersT0 | ParametersT1


@dataclass(frozen=True, slots=True)
class Offer:
    """What a card offers in its ATR."""

    atr: Atr

    @classmethod
    def parse(cls, raw: bytes) -> Offer:
        """Read an ATR.

        Raises:
            Refused: BAD_ATR_TS, or BAD_ATR_TCK where the rest makes no sense.
        """
        if raw[:1] not in (b"\x3b", b"\x3f"):
            raise Refused(Error.BAD_ATR_TS)
        try:
            return cls(Atr.parse(raw))
        except RemoteProtocolError:
            raise Refused(Error.BAD_ATR_TCK) from None

    def parameters(self, protocol: int) -> Parameters:
        """What an automatic reader uses for T=0 or T=1 without the host's help."""
        interface = self.atr.interface
        findex_dindex, guard_time = interface.get("TA1", 0x11), interface.get("TC1", 0)
        clock_stop = self.atr.specific(15).get("A", 0) >> 6
        inverse = 0x02 if self.atr.raw[0] == 0x3F else 0x00
        if protocol == Protocol.T0:
            return ParametersT0(
                findex_dindex, inverse, guard_time, interface.get("TC2", 10), clock_stop
            )
        bytes_of_t1 = self.atr.specific(1)
        return ParametersT1(
            findex_dindex,
            0x10 | inverse | bytes_of_t1.get("C", 0) & 0x01,
            guard_time,
            bytes_of_t1.get("B", 0x4D),
            clock_stop,
            bytes_of_t1.get("A", 0x20),
        )

    def choose(self, protocols: int, voltage: int) -> int:
        """The protocol in force after power-on: the card's first one that the reader has.

        In specific mode there is one only, TA2's (ISO/IEC 7816-3, 6.3.1).

        Args:
            protocols: dwProtocols. voltage: bVoltageSupport.

        Raises:
            Refused: ICC_PROTOCOL_NOT_SUPPORTED or ICC_CLASS_NOT_SUPPORTED.
        """
        # 8.3: TA of T=15 has the classes of operating conditions, 0 where it tells none.
        classes = self.atr.specific(15).get("A", 0) & 0x3F
        if classes and not classes & voltage:
            raise Refused(Error.ICC_CLASS_NOT_SUPPORTED)
        atr = self.atr
        for protocol in atr.protocols if atr.is_negotiable else (atr.first_protocol,):
            if protocols >> protocol & 1:
                return protocol
        raise Refused(Error.ICC_PROTOCOL_NOT_SUPPORTED)


def _check_line(findex_dindex: int, tccks_rfu: int) -> None:
    """What T=0 and T=1 share; RFU bits that are set are refused."""
    if findex_dindex >> 4 not in FI or findex_dindex & 0x0F not in DI:
        raise Refused(Error.BAD_FINDEX_DINDEX)
    if tccks_rfu:
        raise Refused(Error.BAD_TCCKS)
