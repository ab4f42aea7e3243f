# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who wants one of the daemon's readers to be there."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """One reader's state."""

    #: nobody yet
    ABSENT = auto()
    #: by a user, over restarts
    ADDED = auto()
    #: by the settings
    DECLARED = auto()
    #: by a far card
    TRANSIENT = auto()
    #: by a far card, and by settings that came later
    TRANSIENT_DECLARED = auto()
    #: nobody any more; whoever waited for a lock of its finds it so
    REMOVED = auto()


class Event(Enum):
    """What moves it: users (1), settings (2), far cards (3); who opened it ends it."""

    ADD = auto()

    DECLARE = auto()

    FAR_END_CAME = auto()

    END = auto()


DECLARED: Final = frozenset((State.DECLARED, State.TRANSIENT_DECLARED))
TRANSIENT: Final = frozenset((State.TRANSIENT, State.TRANSIENT_DECLARED))

_S, _E = State, Event

#: Whose table goes from the settings is not kept as an added one, it ends.
READER: Final = Machine(
    "reader of the daemon",
    "settings, users and far cards may each want one",
    _S.ABSENT,
    {
        _S.ABSENT: {
            _E.ADD: _S.ADDED,
            _E.DECLARE: _S.DECLARED,
            _E.FAR_END_CAME: _S.TRANSIENT,
        },
        _S.ADDED: {_E.DECLARE: _S.DECLARED, _E.END: _S.REMOVED},
        _S.DECLARED: {_E.DECLARE: _S.DECLARED, _E.END: _S.REMOVED},
        _S.TRANSIENT: {_E.DECLARE: _S.TRANSIENT_DECLARED, _E.END: _S.REMOVED},
        _S.TRANSIENT_DECLARED: {_E.DECLARE: _S.TRANSIENT_DECLARED, _E.END: _S.REMOVED},
        _S.REMOVED: {},
    },
)
