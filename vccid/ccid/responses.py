# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages of the response and the interrupt pipe, reader to host (CCID rev 1.1, 6.2, 6.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from vccid.ccid.codes import Chain, ClockStatus, CommandStatus, IccStatus, MessageType, Protocol
from vccid.errors import RemoteProtocolError

#: bMessageType, dwLength, bSlot, bSeq, bStatus, bError, a byte of its own (6.2)
HEADER: Final = struct.Struct("<BIBBBBB")


@dataclass(slots=True)
class Response:
    """One RDR_to_PC message of the response pipe.

    Attributes:
        icc: bmICCStatus, after the command.
        command: bmCommandStatus.
        error: bError; with TIME_EXTENSION the multiplier of the waiting time.
        specific: byte 9: bChainParameter, bClockStatus, bProtocolNum or RFU.
        data: may hold what a card answered and is never shown.
    """

    slot: int
    seq: int
    icc: IccStatus
    command: CommandStatus = CommandStatus.DONE
    error: int = 0
    specific: int = 0
    data: bytes = field(default=b"", repr=False)

    TYPE: ClassVar[MessageType]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read one whole message.

        Raises:
            RemoteProtocolError: it is not one whole message of this type.
        """
        if len(raw) < HEADER.size:
            raise RemoteProtocolError("a CCID response is at least 10 bytes long")
        kind, length, slot, seq, status, error, specific = HEADER.unpack_from(raw)
        if kind != cls.TYPE or length != len(raw) - HEADER.size:
            raise RemoteProtocolError(f"no CCID response of type {cls.TYPE:02X}h")
        try:
            icc, command = IccStatus(status & 0x03), CommandStatus(status >> 6)
        except ValueError:
            raise RemoteProtocolError(f"bStatus {status:02X}h is RFU") from None
        return cls(slot, seq, icc, command, error, specific, raw[HEADER.size :])

    def serialize(self) -> bytes:
        """The whole message."""
        return HEADER.pack(
            self.TYPE,
            len(self.data),
            self.slot,
            self.seq,
            self.command << 6 | self.icc,
            self.error,
            self.specific,
        ) + self.data  # fmt: skip


@dataclass(slots=True)
class DataBlock(Response):
    """6.2.1. Byte 9 is bChainParameter; data an ATR or a response."""

    TYPE = MessageType.DATA_BLOCK

    @property
    def chain(self) -> Chain:
        """bChainParameter."""
        return Chain(self.specific)


@dataclass(slots=True)
class SlotStatus(Response):
    """6.2.2. Byte 9 is bClockStatus; no data."""

    TYPE = MessageType.SLOT_STATUS

    @property
    def clock(self) -> ClockStatus:
        """bClockStatus."""
        return ClockStatus(self.specific)


@dataclass(slots=True)
class ParametersAnswer(Response):
    """6.2.3. Byte 9 is bProtocolNum; data the 5 or 7 bytes now in force."""

    TYPE = MessageType.PARAMETERS

    @property
    def protocol(self) -> Protocol:
        """bProtocolNum."""
        return Protocol(self.specific)


@dataclass(slots=True)
class EscapeAnswer(Response):
    """6.2.4."""

    TYPE = MessageType.ESCAPE_ANSWER


@dataclass(slots=True)
class DataRateAndClockFrequency(Response):
    """6.2.5. data: dwClockFrequency in kHz and dwDataRate in bit/s, as really set."""

    TYPE = MessageType.DATA_RATE_AND_CLOCK_FREQUENCY
    DATA: ClassVar[struct.Struct] = struct.Struct("<II")


RESPONSES: Final[dict[int, type[Response]]] = {
    kind.TYPE: kind
    for kind in (DataBlock, SlotStatus, ParametersAnswer, EscapeAnswer, DataRateAndClockFrequency)
}


@dataclass(slots=True)
class NotifySlotChange:
    """6.3.1, interrupt pipe.

    Attributes:
        slots: for each slot whether a card is present, and whether that changed since
            the notification before this one.
    """

    slots: tuple[tuple[bool, bool], ...]

    @classmethod
    def parse(cls, raw: bytes, count: int) -> NotifySlotChange:
        """Read the message of a reader with `count` slots.

        Raises:
            RemoteProtocolError: wrong type or length.
        """
        if len(raw) != 1 + (count + 3) // 4 or raw[0] != MessageType.NOTIFY_SLOT_CHANGE:
            raise RemoteProtocolError(f"no NotifySlotChange for {count} slots")
        bits = int.from_bytes(raw[1:], "little")
        return cls(tuple((bool(bits >> 2 * n & 1), bool(bits >> 2 * n & 2)) for n in range(count)))

    def serialize(self) -> bytes:
        """Byte 0, then bmSlotICCState: two bits a slot, slot 0 in the lowest."""
        bits = 0
        for number, (present, changed) in enumerate(self.slots):
            bits |= (present | changed << 1) << 2 * number
        return bytes((MessageType.NOTIFY_SLOT_CHANGE,)) + bits.to_bytes(
            (len(self.slots) + 3) // 4, "little"
        )


@dataclass(slots=True)
class HardwareError:
    """6.3.2, interrupt pipe. seq is that of the command that caused it; code 1 is over-current."""

    slot: int
    seq: int
    code: int

    #: bMessageType, bSlot, bSeq, bHardwareErrorCode
    STRUCT: ClassVar[struct.Struct] = struct.Struct("<BBBB")

    @classmethod
    def parse(cls, raw: bytes) -> HardwareError:
        """Read the message.

        Raises:
            RemoteProtocolError: wrong type or length.
        """
        if len(raw) != cls.STRUCT.size or raw[0] != MessageType.HARDWARE_ERROR:
            raise RemoteProtocolError("no HardwareError message")
        return cls(*raw[1:])

    def serialize(self) -> bytes:
        """The whole message, 4 bytes."""
        return self.STRUCT.pack(MessageType.HARDWARE_ERROR, self.slot, self.seq, self.code)
