# SPDX-License-Identifier: LGPL-2.1-or-later
"""The state tables of pcscd's work: a card's power, a handle, a program that waits.

And in which order a command is checked. Source: pcsc-lite 1.9.9 to 2.5.1, winscard.c,
eventhandler.c, winscard_svc.c. docs/pcsc.md tells where we differ, and why.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import Final

from vccid.wire.pcsclite import (
    Begin,
    CardRequest,
    Control,
    Disconnect,
    End,
    GetAttribute,
    ReaderState,
    Reconnect,
    Rv,
    SetAttribute,
    Status,
    Transmit,
)


class Power(IntEnum):
    """A reader's card, and its power."""

    ABSENT = auto()
    #: without power, since nobody uses it; programs see no difference
    RESTING = auto()
    #: a program took its power away
    OFF = auto()
    ON = auto()


class PowerEvent(IntEnum):
    """What moves it: the card (1), programs (2), time (3)."""

    INSERTED = auto()
    REMOVED = auto()

    POWERED = auto()
    UNPOWERED = auto()
    #: it was reset, or is to be powered, and does not answer
    FAILED = auto()

    #: nobody has used it for a while
    UNUSED = auto()


POWER: Final[dict[Power, dict[PowerEvent, Power]]] = {
    Power.ABSENT: {
        PowerEvent.INSERTED: Power.RESTING,
        PowerEvent.UNUSED: Power.ABSENT,
        PowerEvent.UNPOWERED: Power.ABSENT,
        PowerEvent.FAILED: Power.ABSENT,
    },
    Power.RESTING: {
        PowerEvent.REMOVED: Power.ABSENT,
        PowerEvent.POWERED: Power.ON,
        PowerEvent.UNPOWERED: Power.OFF,
        PowerEvent.FAILED: Power.RESTING,
        PowerEvent.UNUSED: Power.RESTING,
    },
    Power.OFF: {
        PowerEvent.REMOVED: Power.ABSENT,
        PowerEvent.POWERED: Power.ON,
        PowerEvent.UNPOWERED: Power.OFF,
        PowerEvent.FAILED: Power.OFF,
        PowerEvent.UNUSED: Power.OFF,
    },
    Power.ON: {
        PowerEvent.REMOVED: Power.ABSENT,
        PowerEvent.POWERED: Power.ON,
        PowerEvent.UNPOWERED: Power.OFF,
        PowerEvent.FAILED: Power.RESTING,
        PowerEvent.UNUSED: Power.RESTING,
    },
}

#: READER_STATE.readerState.
SHOWN: Final = {
    Power.ABSENT: ReaderState.ABSENT,
    Power.RESTING: ReaderState.READY,
    Power.OFF: ReaderState.PRESENT,
    Power.ON: ReaderState.READY,
}


class Mark(IntEnum):
    """What a handle is to tell its program; told each time, until it reconnects."""

    GOOD = 0
    RESET = auto()
    REMOVED = auto()


class MarkEvent(IntEnum):
    """What happens to the card behind a handle, and what its program does about it."""

    RESET = auto()
    REMOVED = auto()
    RECONNECTED = auto()


#: The last event counts.
MARKS: Final[dict[Mark, dict[MarkEvent, Mark]]] = {
    mark: {
        MarkEvent.RESET: Mark.RESET,
        MarkEvent.REMOVED: Mark.REMOVED,
        MarkEvent.RECONNECTED: Mark.GOOD,
    }
    for mark in Mark
}

TOLD: Final = {Mark.RESET: Rv.W_RESET_CARD, Mark.REMOVED: Rv.W_REMOVED_CARD}


class Wait(IntEnum):
    """A program and its one wait; each ends with one signal, or with the answer to STOP."""

    IDLE = auto()
    LISTENING = auto()
    #: 4:6: it listens, and reads size and array of the states before it reads a signal
    READING = auto()
    #: a signal is due as soon as it has read the array
    CHANGED = auto()
    CANCELLED = auto()


class WaitEvent(IntEnum):
    """What the program sends, what it is sent, and what it waits for."""

    WAIT = auto()
    #: WAIT of 4:6
    WAIT_AND_READ = auto()
    ARRAY_SENT = auto()
    STOP = auto()
    CHANGE = auto()
    CANCEL = auto()


class Say(Enum):
    """What a program is told."""

    NOTHING = auto()
    CHANGE = auto()
    CANCELLED = auto()
    #: the answer to its STOP
    STOPPED = auto()


#: A STOP that crossed the signal gets no answer: the program reads the signal in its place.
WAITS: Final[dict[Wait, dict[WaitEvent, tuple[Wait, Say]]]] = {
    Wait.IDLE: {
        WaitEvent.WAIT: (Wait.LISTENING, Say.NOTHING),
        WaitEvent.WAIT_AND_READ: (Wait.READING, Say.NOTHING),
        WaitEvent.ARRAY_SENT: (Wait.IDLE, Say.NOTHING),
        WaitEvent.STOP: (Wait.IDLE, Say.NOTHING),
        WaitEvent.CHANGE: (Wait.IDLE, Say.NOTHING),
        WaitEvent.CANCEL: (Wait.IDLE, Say.NOTHING),
    },
    Wait.LISTENING: {
        WaitEvent.WAIT: (Wait.LISTENING, Say.NOTHING),
        WaitEvent.WAIT_AND_READ: (Wait.READING, Say.NOTHING),
        WaitEvent.ARRAY_SENT: (Wait.LISTENING, Say.NOTHING),
        WaitEvent.STOP: (Wait.IDLE, Say.STOPPED),
        WaitEvent.CHANGE: (Wait.IDLE, Say.CHANGE),
        WaitEvent.CANCEL: (Wait.IDLE, Say.CANCELLED),
    },
    Wait.READING: {
        WaitEvent.WAIT: (Wait.LISTENING, Say.NOTHING),
        WaitEvent.WAIT_AND_READ: (Wait.READING, Say.NOTHING),
        WaitEvent.ARRAY_SENT: (Wait.LISTENING, Say.NOTHING),
        WaitEvent.STOP: (Wait.IDLE, Say.STOPPED),
        WaitEvent.CHANGE: (Wait.CHANGED, Say.NOTHING),
        WaitEvent.CANCEL: (Wait.CANCELLED, Say.NOTHING),
    },
    Wait.CHANGED: {
        WaitEvent.WAIT: (Wait.IDLE, Say.CHANGE),
        WaitEvent.WAIT_AND_READ: (Wait.CHANGED, Say.NOTHING),
        WaitEvent.ARRAY_SENT: (Wait.IDLE, Say.CHANGE),
        WaitEvent.STOP: (Wait.IDLE, Say.STOPPED),
        WaitEvent.CHANGE: (Wait.CHANGED, Say.NOTHING),
        WaitEvent.CANCEL: (Wait.CANCELLED, Say.NOTHING),
    },
    Wait.CANCELLED: {
        WaitEvent.WAIT: (Wait.IDLE, Say.CANCELLED),
        WaitEvent.WAIT_AND_READ: (Wait.CANCELLED, Say.NOTHING),
        WaitEvent.ARRAY_SENT: (Wait.IDLE, Say.CANCELLED),
        WaitEvent.STOP: (Wait.IDLE, Say.STOPPED),
        WaitEvent.CHANGE: (Wait.CANCELLED, Say.NOTHING),
        WaitEvent.CANCEL: (Wait.CANCELLED, Say.NOTHING),
    },
}


class Check(Enum):
    """What is asked before a command is done, and what it gets where the answer is no."""

    #: a disposition or initialization that there is: E_INVALID_VALUE
    VALUE = auto()
    #: a share mode that there is: E_INVALID_VALUE; then a protocol: E_PROTO_MISMATCH
    MODE = auto()
    #: its reader is there: E_INVALID_VALUE
    READER = auto()
    #: nobody else's transaction: E_SHARING_VIOLATION
    LOCK = auto()
    #: as LOCK, where the card is acted upon
    LOCK_TO_ACT = auto()
    #: its handle is good: W_RESET_CARD, W_REMOVED_CARD
    MARK = auto()
    #: a card is in: E_NO_SMARTCARD
    CARD = auto()
    #: the protocol it names is the card's: E_PROTO_MISMATCH
    PROTOCOL = auto()


#: The order decides which of two reasons a program hears.
CHECKS: Final[dict[type[CardRequest], tuple[Check, ...]]] = {
    Reconnect: (Check.VALUE, Check.MODE, Check.READER, Check.LOCK),
    Disconnect: (Check.VALUE, Check.LOCK_TO_ACT),
    Begin: (Check.READER, Check.MARK, Check.LOCK),
    End: (Check.VALUE, Check.READER, Check.MARK, Check.LOCK_TO_ACT),
    Status: (Check.READER, Check.LOCK, Check.MARK),
    Transmit: (Check.READER, Check.LOCK, Check.MARK, Check.CARD, Check.PROTOCOL),
    Control: (Check.READER, Check.LOCK),
    GetAttribute: (Check.READER, Check.LOCK, Check.MARK),
    SetAttribute: (Check.READER, Check.LOCK, Check.MARK),
}
