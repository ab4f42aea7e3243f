# SPDX-License-Identifier: LGPL-2.1-or-later
"""The numbers of CCID rev 1.1: message types, status and error registers, chain codes."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class MessageType(IntEnum):
    """bMessageType (6.1, 6.2, 6.3)."""

    SET_PARAMETERS = 0x61
    ICC_POWER_ON = 0x62
    ICC_POWER_OFF = 0x63
    GET_SLOT_STATUS = 0x65
    SECURE = 0x69
    T0_APDU = 0x6A
    ESCAPE = 0x6B
    GET_PARAMETERS = 0x6C
    RESET_PARAMETERS = 0x6D
    ICC_CLOCK = 0x6E
    XFR_BLOCK = 0x6F
    MECHANICAL = 0x71
    ABORT = 0x72
    SET_DATA_RATE_AND_CLOCK_FREQUENCY = 0x73

    DATA_BLOCK = 0x80
    SLOT_STATUS = 0x81
    PARAMETERS = 0x82
    ESCAPE_ANSWER = 0x83
    DATA_RATE_AND_CLOCK_FREQUENCY = 0x84

    NOTIFY_SLOT_CHANGE = 0x50
    #: never sent: its one code is over-current
    HARDWARE_ERROR = 0x51


class IccStatus(IntEnum):
    """bmICCStatus, bits 1-0 of bStatus (6.2.6): the state after the command."""

    ACTIVE = 0
    INACTIVE = 1
    ABSENT = 2


class CommandStatus(IntEnum):
    """bmCommandStatus, bits 7-6 of bStatus (6.2.6)."""

    DONE = 0
    FAILED = 1
    TIME_EXTENSION = 2


class Error(IntEnum):
    """bError when bmCommandStatus is FAILED (6.2.6, table 6.2-2).

    01h to 7Fh is the offset in the message of the field that is wrong: those that are
    refused here are named, after the tables of the commands (6.1.4, 6.1.7, 6.1.11).
    """

    CMD_NOT_SUPPORTED = 0x00
    BAD_LENGTH = 0x01
    BAD_SLOT = 0x05
    BAD_FIELD_7 = 0x07  # bPowerSelect, bProtocolNum, bClockCommand, bmChanges, bFunction
    BAD_LEVEL = 0x08  # wLevelParameter
    BAD_PIN_OPERATION = 0x0A
    BAD_FINDEX_DINDEX = 0x0A
    BAD_TCCKS = 0x0B
    BAD_WAITING_INTEGERS = 0x0D
    BAD_CLOCK_STOP = 0x0E
    BAD_IFSC = 0x0F
    BAD_NAD = 0x10
    CMD_SLOT_BUSY = 0xE0
    PIN_CANCELLED = 0xEF
    PIN_TIMEOUT = 0xF0
    # F2h to F4h and FDh are never sent: they tell of automatic sequences, protocols and parity
    # on a line that is not there.
    BUSY_WITH_AUTO_SEQUENCE = 0xF2
    DEACTIVATED_PROTOCOL = 0xF3
    PROCEDURE_BYTE_CONFLICT = 0xF4
    ICC_CLASS_NOT_SUPPORTED = 0xF5
    ICC_PROTOCOL_NOT_SUPPORTED = 0xF6
    BAD_ATR_TCK = 0xF7
    BAD_ATR_TS = 0xF8
    HW_ERROR = 0xFB
    XFR_OVERRUN = 0xFC
    XFR_PARITY_ERROR = 0xFD
    ICC_MUTE = 0xFE
    CMD_ABORTED = 0xFF


class ClockStatus(IntEnum):
    """bClockStatus of RDR_to_PC_SlotStatus (6.2.2)."""

    RUNNING = 0
    STOPPED_LOW = 1
    STOPPED_HIGH = 2
    STOPPED_UNKNOWN = 3


class Chain(IntEnum):
    """wLevelParameter (6.1.4) and bChainParameter (6.2.1) at extended APDU level."""

    WHOLE = 0x00
    BEGINS = 0x01
    ENDS = 0x02
    CONTINUES = 0x03
    EMPTY = 0x10


class Protocol(IntEnum):
    """bProtocolNum (6.1.7)."""

    T0 = 0
    T1 = 1
    TWO_WIRE = 0x80
    THREE_WIRE = 0x81
    I2C = 0x82


class Feature(IntFlag):
    """dwFeatures (5.1)."""

    AUTO_PARAMETERS = 0x2
    AUTO_ACTIVATION = 0x4
    AUTO_VOLTAGE = 0x8
    AUTO_CLOCK = 0x10
    AUTO_BAUD_RATE = 0x20
    AUTO_NEGOTIATION = 0x40
    AUTO_PPS = 0x80
    CLOCK_STOP = 0x100
    NAD = 0x200
    AUTO_IFSD = 0x400
    TPDU = 0x10000
    SHORT_APDU = 0x20000
    EXTENDED_APDU = 0x40000


class PinSupport(IntFlag):
    """bPINSupport (5.1)."""

    VERIFY = 1
    MODIFY = 2
