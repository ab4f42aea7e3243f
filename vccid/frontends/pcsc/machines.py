# SPDX-License-Identifier: LGPL-2.1-or-later
"""The state tables of pcscd's work: a card's power, a handle, a program that waits.

And in which order a command is checked. Source: pcsc-lite 1.9.9 to 2.5.1, winscard.c,
eventhandler.c, winscard_svc.c. docs/pcsc.md tells where we differ, and why.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto
from typing import Final

from vccid.machine import Machine
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


_P, _PE = Power, PowerEvent

POWER: Final = Machine(
    "a card's power, as programs of PC/SC share it",
    "pcsc-lite 1.9.9 to 2.5.1, eventhandler.c and winscard.c",
    _P.ABSENT,
    {
        _P.ABSENT: {
            _PE.INSERTED: _P.RESTING,
            _PE.UNPOWERED: _P.ABSENT,
            _PE.FAILED: _P.ABSENT,
            _PE.UNUSED: _P.ABSENT,
        },
        _P.RESTING: {
            _PE.REMOVED: _P.ABSENT,
            _PE.POWERED: _P.ON,
            _PE.UNPOWERED: _P.OFF,
            _PE.FAILED: _P.RESTING,
            _PE.UNUSED: _P.RESTING,
        },
        _P.OFF: {
            _PE.REMOVED: _P.ABSENT,
            _PE.POWERED: _P.ON,
            _PE.UNPOWERED: _P.OFF,
            _PE.FAILED: _P.OFF,
            _PE.UNUSED: _P.OFF,
        },
        _P.ON: {
            _PE.REMOVED: _P.ABSENT,
            _PE.POWERED: _P.ON,
            _PE.UNPOWERED: _P.OFF,
            _PE.FAILED: _P.RESTING,
            _PE.UNUSED: _P.RESTING,
        },
    },
)

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
    #: its reader is no more, and comes back as another
    GONE = auto()


class MarkEvent(IntEnum):
    """What happens to the card behind a handle, and what its program does about it."""

    RESET = auto()
    REMOVED = auto()
    GONE = auto()
    RECONNECTED = auto()


#: The last event counts, until the reader goes.
MARKS: Final = Machine(
    "a handle of PC/SC",
    "pcsc-lite 1.9.9 to 2.5.1, readerfactory.c and winscard.c",
    Mark.GOOD,
    {
        **{
            mark: {
                MarkEvent.RESET: Mark.RESET,
                MarkEvent.REMOVED: Mark.REMOVED,
                MarkEvent.GONE: Mark.GONE,
                MarkEvent.RECONNECTED: Mark.GOOD,
            }
            for mark in (Mark.GOOD, Mark.RESET, Mark.REMOVED)
        },
        Mark.GONE: {},
    },
)

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

    CHANGE = auto()
    CANCELLED = auto()
    #: the answer to its STOP
    STOPPED = auto()


_W, _WE = Wait, WaitEvent

WAITS: Final = Machine(
    "a program of PC/SC that waits for a change",
    "pcsc-lite 1.9.9 to 2.5.1, winscard_clnt.c and eventhandler.c",
    _W.IDLE,
    {
        _W.IDLE: {
            _WE.WAIT: _W.LISTENING,
            _WE.WAIT_AND_READ: _W.READING,
            _WE.ARRAY_SENT: _W.IDLE,
            _WE.STOP: _W.IDLE,
            _WE.CHANGE: _W.IDLE,
            _WE.CANCEL: _W.IDLE,
        },
        _W.LISTENING: {
            _WE.WAIT: _W.LISTENING,
            _WE.WAIT_AND_READ: _W.READING,
            _WE.ARRAY_SENT: _W.LISTENING,
            _WE.STOP: _W.IDLE,
            _WE.CHANGE: _W.IDLE,
            _WE.CANCEL: _W.IDLE,
        },
        _W.READING: {
            _WE.WAIT: _W.LISTENING,
            _WE.WAIT_AND_READ: _W.READING,
            _WE.ARRAY_SENT: _W.LISTENING,
            _WE.STOP: _W.IDLE,
            _WE.CHANGE: _W.CHANGED,
            _WE.CANCEL: _W.CANCELLED,
        },
        _W.CHANGED: {
            _WE.WAIT: _W.IDLE,
            _WE.WAIT_AND_READ: _W.CHANGED,
            _WE.ARRAY_SENT: _W.IDLE,
            _WE.STOP: _W.IDLE,
            _WE.CHANGE: _W.CHANGED,
            _WE.CANCEL: _W.CANCELLED,
        },
        _W.CANCELLED: {
            _WE.WAIT: _W.IDLE,
            _WE.WAIT_AND_READ: _W.CANCELLED,
            _WE.ARRAY_SENT: _W.IDLE,
            _WE.STOP: _W.IDLE,
            _WE.CHANGE: _W.CANCELLED,
            _WE.CANCEL: _W.CANCELLED,
        },
    },
)

#: What of this a program hears. A STOP that crossed the signal gets no answer: the program reads
#: the signal in its place.
SAYS: Final = {
    (_W.LISTENING, _WE.STOP): Say.STOPPED,
    (_W.LISTENING, _WE.CHANGE): Say.CHANGE,
    (_W.LISTENING, _WE.CANCEL): Say.CANCELLED,
    (_W.READING, _WE.STOP): Say.STOPPED,
    (_W.CHANGED, _WE.WAIT): Say.CHANGE,
    (_W.CHANGED, _WE.ARRAY_SENT): Say.CHANGE,
    (_W.CHANGED, _WE.STOP): Say.STOPPED,
    (_W.CANCELLED, _WE.WAIT): Say.CANCELLED,
    (_W.CANCELLED, _WE.ARRAY_SENT): Say.CANCELLED,
    (_W.CANCELLED, _WE.STOP): Say.STOPPED,
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
