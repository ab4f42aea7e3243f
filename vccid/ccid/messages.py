# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages of the command pipe, host to reader (CCID rev 1.1, 6.1).

Every message is ten bytes and dwLength more, little-endian:

    offset  0 bMessageType   1 dwLength (4)   5 bSlot   6 bSeq   7 three bytes of its own
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from vccid.ccid.codes import Error, MessageType
from vccid.ccid.responses import (
    DataBlock,
    DataRateAndClockFrequency,
    EscapeAnswer,
    ParametersAnswer,
    Response,
    SlotStatus,
)
from vccid.errors import RemoteProtocolError

HEADER_SIZE: Final = 10
#: bMessageType, dwLength, bSlot, bSeq, bytes 7 to 9 (6.1)
HEADER: Final = struct.Struct("<BIBB3s")
#: bytes 7 to 9 of XfrBlock and Secure: bBWI, wLevelParameter (6.1.4, 6.1.11)
_XFR_SPECIFIC: Final = struct.Struct("<BH")


class Refused(RemoteProtocolError):
    """A command that is answered as failed.

    Attributes:
        error: bError: an `Error`, or 01h to 7Fh, the offset of the wrong field.
    """

    def __init__(self, error: int) -> None:
        super().__init__(f"refused with bError {error:02X}h")
        self.error = error


@dataclass(slots=True)
class Header:
    """The ten bytes every message begins with (6.1).

    Attributes:
        length: dwLength, bytes after the header.
        specific: bytes 7 to 9.
    """

    type: int
    length: int
    slot: int
    seq: int
    specific: bytes

    @classmethod
    def parse(cls, raw: bytes | bytearray | memoryview) -> Header:
        """Read the first ten bytes; the caller has at least that many."""
        return cls(*HEADER.unpack_from(raw))


@dataclass(slots=True)
class Command:
    """One PC_to_RDR message. ANSWER is the response's type, also when it fails (6.2)."""

    slot: int
    seq: int

    TYPE: ClassVar[MessageType]
    ANSWER: ClassVar[type[Response]] = SlotStatus

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        """Commands without fields of their own; the others have their own `parse`.

        Raises:
            Refused: dwLength is impossible for the type.
        """
        _need_length(data, 0)
        return cls(header.slot, header.seq)

    def serialize(self) -> bytes:
        """The whole message."""
        return self._message()

    def _message(self, specific: bytes = b"\0\0\0", data: bytes = b"") -> bytes:
        return HEADER.pack(self.TYPE, len(data), self.slot, self.seq, specific) + data


@dataclass(slots=True)
class IccPowerOn(Command):
    """6.1.1. power_select: 0 automatic, 1 5 V, 2 3 V, 3 1.8 V."""

    power_select: int = 0

    TYPE = MessageType.ICC_POWER_ON
    ANSWER = DataBlock

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        _need_length(data, 0)
        return cls(header.slot, header.seq, header.specific[0])

    def serialize(self) -> bytes:
        return self._message(bytes((self.power_select, 0, 0)))


@dataclass(slots=True)
class IccPowerOff(Command):
    """6.1.2."""

    TYPE = MessageType.ICC_POWER_OFF


@dataclass(slots=True)
class GetSlotStatus(Command):
    """6.1.3."""

    TYPE = MessageType.GET_SLOT_STATUS


@dataclass(slots=True)
class XfrBlock(Command):
    """6.1.4. data is an APDU, or a part of one; it may hold a PIN and is never shown."""

    bwi: int = 0
    level: int = 0
    data: bytes = field(default=b"", repr=False)

    TYPE = MessageType.XFR_BLOCK
    ANSWER = DataBlock

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        bwi, level = _XFR_SPECIFIC.unpack(header.specific)
        return cls(header.slot, header.seq, bwi, level, data)

    def serialize(self) -> bytes:
        return self._message(_XFR_SPECIFIC.pack(self.bwi, self.level), self.data)


@dataclass(slots=True)
class GetParameters(Command):
    """6.1.5."""

    TYPE = MessageType.GET_PARAMETERS
    ANSWER = ParametersAnswer


@dataclass(slots=True)
class ResetParameters(Command):
    """6.1.6."""

    TYPE = MessageType.RESET_PARAMETERS
    ANSWER = ParametersAnswer


@dataclass(slots=True)
class SetParameters(Command):
    """6.1.7. data: abProtocolDataStructure, 5 bytes for T=0 and 7 for T=1."""

    protocol: int
    data: bytes

    TYPE = MessageType.SET_PARAMETERS
    ANSWER = ParametersAnswer
    #: bProtocolNum -> dwLength
    LENGTHS: ClassVar = {0: 5, 1: 7}

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        protocol = header.specific[0]
        _need_length(data, cls.LENGTHS.get(protocol, len(data)))
        return cls(header.slot, header.seq, protocol, data)

    def serialize(self) -> bytes:
        return self._message(bytes((self.protocol, 0, 0)), self.data)


@dataclass(slots=True)
class Escape(Command):
    """6.1.8. data is the vendor's."""

    data: bytes = b""

    TYPE = MessageType.ESCAPE
    ANSWER = EscapeAnswer

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        return cls(header.slot, header.seq, data)

    def serialize(self) -> bytes:
        return self._message(data=self.data)


@dataclass(slots=True)
class IccClock(Command):
    """6.1.9. clock_command: 0 restart, 1 stop as bClockStop says."""

    clock_command: int

    TYPE = MessageType.ICC_CLOCK

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        _need_length(data, 0)
        return cls(header.slot, header.seq, header.specific[0])

    def serialize(self) -> bytes:
        return self._message(bytes((self.clock_command, 0, 0)))


@dataclass(slots=True)
class T0APDU(Command):
    """6.1.10. changes: bit 0 takes class_get_response, bit 1 class_envelope."""

    changes: int
    class_get_response: int = 0
    class_envelope: int = 0

    TYPE = MessageType.T0_APDU

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        _need_length(data, 0)
        return cls(header.slot, header.seq, *header.specific)

    def serialize(self) -> bytes:
        return self._message(bytes((self.changes, self.class_get_response, self.class_envelope)))


@dataclass(slots=True)
class Secure(Command):
    """6.1.11. data: bPINOperation, then its structure (vccid.ccid.pin_entry)."""

    bwi: int = 0
    level: int = 0
    data: bytes = field(default=b"", repr=False)

    TYPE = MessageType.SECURE
    ANSWER = DataBlock

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        if not data:
            raise Refused(Error.BAD_LENGTH)
        bwi, level = _XFR_SPECIFIC.unpack(header.specific)
        return cls(header.slot, header.seq, bwi, level, data)

    def serialize(self) -> bytes:
        return self._message(_XFR_SPECIFIC.pack(self.bwi, self.level), self.data)


@dataclass(slots=True)
class Mechanical(Command):
    """6.1.12. function: 1 accept, 2 eject, 3 capture, 4 lock, 5 unlock."""

    function: int

    TYPE = MessageType.MECHANICAL

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        _need_length(data, 0)
        return cls(header.slot, header.seq, header.specific[0])

    def serialize(self) -> bytes:
        return self._message(bytes((self.function, 0, 0)))


@dataclass(slots=True)
class Abort(Command):
    """6.1.13: the bulk half; the other is the control request ABORT (5.3.1)."""

    TYPE = MessageType.ABORT


@dataclass(slots=True)
class SetDataRateAndClockFrequency(Command):
    """6.1.14. clock in kHz, rate in bit/s."""

    clock: int
    rate: int

    TYPE = MessageType.SET_DATA_RATE_AND_CLOCK_FREQUENCY
    ANSWER = DataRateAndClockFrequency
    #: dwClockFrequency, dwDataRate
    DATA: ClassVar[struct.Struct] = struct.Struct("<II")

    @classmethod
    def parse(cls, header: Header, data: bytes) -> Self:
        _need_length(data, cls.DATA.size)
        return cls(header.slot, header.seq, *cls.DATA.unpack(data))

    def serialize(self) -> bytes:
        return self._message(data=self.DATA.pack(self.clock, self.rate))


COMMANDS: Final[dict[int, type[Command]]] = {
    kind.TYPE: kind
    for kind in (
        IccPowerOn, IccPowerOff, GetSlotStatus, XfrBlock, GetParameters, ResetParameters,
        SetParameters, Escape, IccClock, T0APDU, Secure, Mechanical, Abort,
        SetDataRateAndClockFrequency,
    )
}  # fmt: skip

_PARSERS: Final[dict[int, Callable[[Header, bytes], Command]]] = {
    number: kind.parse for number, kind in COMMANDS.items()
}


def parse_command(header: Header, data: bytes | None) -> Command:
    """Make the message of a header and what came behind it, None where that was not dwLength bytes.

    Raises:
        Refused: nobody defines the type, or dwLength is wrong, or impossible for the type.
    """
    if data is None:
        raise Refused(Error.BAD_LENGTH)
    parse = _PARSERS.get(header.type)
    if parse is None:
        raise Refused(Error.CMD_NOT_SUPPORTED)
    return parse(header, data)


def answer_type(message_type: int) -> type[Response]:
    """The response's type is fixed by the command's, also when it fails (6.2).

    6.1 leaves it open for a type nobody defines: RDR_to_PC_SlotStatus, as most readers do.
    """
    command = COMMANDS.get(message_type)
    return SlotStatus if command is None else command.ANSWER


def _need_length(data: bytes, length: int) -> None:
    if len(data) != length:
        raise Refused(Error.BAD_LENGTH)
