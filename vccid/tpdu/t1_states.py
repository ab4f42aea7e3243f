# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the card's end of T=1 stands with a command (ISO/IEC 7816-3:2006, 11.6)."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

from vccid.machine import Machine


class State(IntEnum):
    """One link's state."""

    #: for a command, or for what is left of one or of its answer
    READY = auto()
    #: the card executes a command
    WORKING = auto()
    #: likewise, and S(WTX request) waits for its answer
    EXTENDING = auto()


class Event(IntEnum):
    """What moves it: the host's blocks (1), the card (2)."""

    #: the last I-block of one
    COMMAND = auto()
    #: S(WTX response)
    GRANTED = auto()
    #: S(RESYNCH request)
    RESYNCH = auto()
    #: S(ABORT request)
    ABORT = auto()

    ANSWERED = auto()
    #: it sends S(WTX request)
    ASKS_FOR_TIME = auto()


_S, _E = State, Event

#: A command in WORKING comes from a host that gave the last one up without a word, as after an
#: abort of CCID. In EXTENDING S(WTX response) is waited for: all that the card answers comes after.
T1_LINK: Final = Machine(
    "card's end of T=1",
    "ISO/IEC 7816-3:2006, 11.6.2 and 11.6.3",
    _S.READY,
    {
        _S.READY: {
            _E.COMMAND: _S.WORKING,
            _E.RESYNCH: _S.READY,
            _E.ABORT: _S.READY,
        },
        _S.WORKING: {
            _E.COMMAND: _S.WORKING,
            _E.RESYNCH: _S.READY,
            _E.ABORT: _S.READY,
            _E.ANSWERED: _S.READY,
            _E.ASKS_FOR_TIME: _S.EXTENDING,
        },
        _S.EXTENDING: {
            _E.GRANTED: _S.WORKING,
            _E.RESYNCH: _S.READY,
            _E.ABORT: _S.READY,
        },
    },
)
