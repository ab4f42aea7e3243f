# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a card of ours stands that is shown to a vpcd (vsmartcard: virtualsmartcard/src/vpcd)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """One card side's state."""

    #: no card is in the reader; to vpcd a connection would be one
    EMPTY = auto()
    #: a card is in, and vpcd is dialled until it is there
    DIALLING = auto()
    #: connected; vpcd looks within 0.4 s, unless its slot has another card
    CONNECTED = auto()
    #: vpcd has asked for the ATR
    SHOWN = auto()
    #: our end of the connection is closed, and vpcd has yet to notice
    LEAVING = auto()
    STOPPED = auto()


class Event(Enum):
    """What moves it: the reader (1), the peer (2), we (3)."""

    INSERTED = auto()
    REMOVED = auto()

    REACHED = auto()
    ATR_ASKED = auto()
    LOST = auto()

    STOP = auto()


_S, _E = State, Event

VPICC: Final = Machine(
    "card shown to a vpcd",
    "vsmartcard's vpcd: connected is inserted, closed is removed",
    _S.EMPTY,
    {
        _S.EMPTY: {_E.INSERTED: _S.DIALLING, _E.STOP: _S.STOPPED},
        _S.DIALLING: {
            _E.REMOVED: _S.EMPTY,
            _E.REACHED: _S.CONNECTED,
            _E.STOP: _S.STOPPED,
        },
        _S.CONNECTED: {
            _E.REMOVED: _S.LEAVING,
            _E.ATR_ASKED: _S.SHOWN,
            _E.LOST: _S.DIALLING,
            _E.STOP: _S.STOPPED,
        },
        _S.SHOWN: {_E.REMOVED: _S.LEAVING, _E.LOST: _S.DIALLING, _E.STOP: _S.STOPPED},
        _S.LEAVING: {_E.LOST: _S.EMPTY, _E.STOP: _S.STOPPED},
        _S.STOPPED: {},
    },
)
