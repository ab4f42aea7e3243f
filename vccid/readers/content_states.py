# SPDX-License-Identifier: LGPL-2.1-or-later
"""How what was put into a reader stands."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """A reader's content; a far card, which nobody put in here, is none of it."""

    #: nothing was put in
    EMPTY = auto()
    #: was in before a restart, and is to be again
    DUE = auto()
    #: a card made of certificates is in
    MADE = auto()
    #: a real card comes and goes here
    FOLLOWED = auto()
    #: it could not be put back, or what it is made of is gone
    FAILED = auto()


class Event(Enum):
    """What moves it: users and restarts (1), what was put in (2)."""

    #: readers.json has it
    RECALLED = auto()
    MAKE = auto()
    FOLLOW = auto()
    REMOVE = auto()
    #: the reader goes, or the daemon
    CLOSE = auto()

    FAILED = auto()


_S, _E = State, Event
_PUT_IN: Final = {_E.MAKE: _S.MADE, _E.FOLLOW: _S.FOLLOWED}

#: CLOSE keeps what was in: after the daemon's end it is what the next start puts back.
CONTENT: Final = Machine(
    "content of a reader",
    "what was put in stays so over restarts, until it is removed",
    _S.EMPTY,
    {
        _S.EMPTY: {
            _E.RECALLED: _S.DUE,
            **_PUT_IN,
            _E.REMOVE: _S.EMPTY,
            _E.CLOSE: _S.EMPTY,
        },
        _S.DUE: {**_PUT_IN, _E.CLOSE: _S.DUE, _E.FAILED: _S.FAILED},
        _S.MADE: {_E.REMOVE: _S.EMPTY, _E.CLOSE: _S.DUE, _E.FAILED: _S.FAILED},
        _S.FOLLOWED: {_E.REMOVE: _S.EMPTY, _E.CLOSE: _S.DUE},
        _S.FAILED: {**_PUT_IN, _E.REMOVE: _S.EMPTY, _E.CLOSE: _S.FAILED},
    },
)
