# SPDX-License-Identifier: LGPL-2.1-or-later
"""How one of a reader's attachments stands."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """One attachment's state."""

    #: nobody asked for it
    ABSENT = auto()
    #: was there before a restart, and is to be again
    DUE = auto()
    #: asked for by a user or the settings, and not there yet
    STARTING = auto()
    UP = auto()
    #: could not come back after a restart
    FAILED = auto()
    #: the other end let go of it by itself
    RELEASED = auto()
    #: as STARTING, of one that was released
    RETAKEN = auto()


class Event(Enum):
    """What moves it: users, settings and restarts (1), its frontend (2)."""

    #: readers.json has it
    RECALLED = auto()
    START = auto()
    #: a restart's only try has failed
    GIVEN_UP = auto()
    STOP = auto()

    STARTED = auto()
    NOT_STARTED = auto()
    LOST = auto()


#: Those that a restart brings back.
KEPT: Final = frozenset((State.DUE, State.UP, State.FAILED))
#: Those whose terminal or bus id another reader may have.
PLACE_IS_FREE: Final = frozenset((State.ABSENT, State.RELEASED))

_S, _E = State, Event

#: What is to come back stays DUE or FAILED while it is tried, and after a user's try that failed:
#: so the next restart tries it too.
ATTACHMENT: Final = Machine(
    "attachment of a reader",
    "what was attached stays so over restarts, until it is detached or let go of",
    _S.ABSENT,
    {
        _S.ABSENT: {_E.RECALLED: _S.DUE, _E.START: _S.STARTING},
        _S.DUE: {
            _E.START: _S.DUE,
            _E.GIVEN_UP: _S.FAILED,
            _E.STOP: _S.ABSENT,
            _E.STARTED: _S.UP,
            _E.NOT_STARTED: _S.DUE,
        },
        _S.STARTING: {_E.STARTED: _S.UP, _E.NOT_STARTED: _S.ABSENT},
        _S.UP: {_E.RECALLED: _S.UP, _E.STOP: _S.ABSENT, _E.LOST: _S.RELEASED},
        _S.FAILED: {
            _E.START: _S.FAILED,
            _E.STOP: _S.ABSENT,
            _E.STARTED: _S.UP,
            _E.NOT_STARTED: _S.FAILED,
        },
        _S.RELEASED: {_E.START: _S.RETAKEN, _E.STOP: _S.ABSENT},
        _S.RETAKEN: {_E.STARTED: _S.UP, _E.NOT_STARTED: _S.RELEASED},
    },
)
