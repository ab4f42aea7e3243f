# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a device node's open file stands: commands and responses take turns."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

from vccid.machine import Machine


class State(IntEnum):
    """The state of a file that was opened for reading and writing."""

    #: for a command
    READY = auto()
    #: the card executes one
    WORKING = auto()
    #: a response is to be read, or an error number that is there in place of one
    ANSWERED = auto()
    #: the session is over
    OVER = auto()
    #: likewise, and a response from before is to be read
    OVER_ANSWERED = auto()


class Event(IntEnum):
    """What moves it: the program's calls (1), the card (2)."""

    #: a command was written whose response is to come
    WRITTEN = auto()
    #: the response was read to its end, or is wanted no more: a reset
    READ = auto()
    #: the reset gave it a new session
    POWERED = auto()

    ANSWERED = auto()
    #: the session ended: the card left, another host has it, a reset
    LOST = auto()


_S, _E = State, Event

#: A response that is there at once leads from READY. A reset ends a session of its own, and one
#: that a reset in another thread was quicker to begin, whose response stays.
CARD_FILE: Final = Machine(
    "device node's open file",
    "docs/device-node.md",
    _S.READY,
    {
        _S.READY: {
            _E.WRITTEN: _S.WORKING,
            _E.READ: _S.READY,
            _E.ANSWERED: _S.ANSWERED,
            _E.LOST: _S.OVER,
        },
        _S.WORKING: {
            _E.READ: _S.WORKING,
            _E.ANSWERED: _S.ANSWERED,
            _E.LOST: _S.OVER,
        },
        _S.ANSWERED: {_E.READ: _S.READY, _E.LOST: _S.OVER_ANSWERED},
        _S.OVER: {_E.READ: _S.OVER, _E.POWERED: _S.READY},
        _S.OVER_ANSWERED: {_E.READ: _S.OVER, _E.POWERED: _S.ANSWERED},
    },
)
