# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a card's PIN stands, for all sessions at once."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """A PIN's state."""

    #: nothing was read of it yet
    UNREAD = auto()
    #: it has tries left
    USABLE = auto()
    #: a try is counted on disk, and the PIN is being looked at
    CHECKING = auto()
    #: it has none
    BLOCKED = auto()
    #: what is on disk cannot be used: nothing verifies
    UNUSABLE = auto()


class Event(Enum):
    """What moves it: what was read or set (1), and what became of a try (2)."""

    #: the state on disk has tries left
    READ = auto()
    #: it has none
    READ_NONE = auto()
    UNREADABLE = auto()

    COUNTED = auto()
    #: the PIN was right, or the token refused to judge it
    GIVEN_BACK = auto()
    #: it was wrong, or the disk would not give the try back
    SPENT = auto()
    SPENT_LAST = auto()


_S, _E = State, Event

_READINGS: Final = {
    _E.READ: _S.USABLE,
    _E.READ_NONE: _S.BLOCKED,
    _E.UNREADABLE: _S.UNUSABLE,
}

#: A try is on disk before the PIN is looked at: whoever is killed in CHECKING gives none back.
PIN: Final = Machine(
    "PIN",
    "ISO/IEC 7816-4, 11.6.2: a counter that a wrong PIN takes down and a right one sets again",
    _S.UNREAD,
    {
        _S.UNREAD: _READINGS,
        _S.USABLE: {**_READINGS, _E.COUNTED: _S.CHECKING},
        _S.CHECKING: {
            _E.GIVEN_BACK: _S.USABLE,
            _E.SPENT: _S.USABLE,
            _E.SPENT_LAST: _S.BLOCKED,
        },
        _S.BLOCKED: _READINGS,
        _S.UNUSABLE: _READINGS,
    },
)
