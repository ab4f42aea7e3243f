# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a module's process is there, and whether its end is known to come."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """One process's state."""

    RUNNING = auto()
    #: asked to end: nobody is told of that
    ENDING = auto()
    ENDED = auto()


class Event(Enum):
    """What moves it: we (1), the process (2)."""

    END = auto()

    ENDED = auto()


_S, _E = State, Event

WORKER: Final = Machine(
    "process of a PKCS#11 module",
    "one that ends unasked takes its card along",
    _S.RUNNING,
    {
        _S.RUNNING: {_E.END: _S.ENDING, _E.ENDED: _S.ENDED},
        _S.ENDING: {_E.END: _S.ENDING, _E.ENDED: _S.ENDED},
        _S.ENDED: {_E.END: _S.ENDED},
    },
)
