# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the command of `vccid run` is stopped, as a job of the terminal."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """The command's state, as far as we have heard of it."""

    RUNNING = auto()
    STOPPED = auto()


class Event(Enum):
    """What moves it: the command (1), we or our shell (2)."""

    #: waitpid(2) says so
    STOPPED = auto()

    #: we go on, and so does it
    CONTINUED = auto()


_S, _E = State, Event

JOB: Final = Machine(
    "command of vccid run",
    "signal(7); glibc manual, Stopped and Terminated Jobs",
    _S.RUNNING,
    {
        _S.RUNNING: {_E.STOPPED: _S.STOPPED, _E.CONTINUED: _S.RUNNING},
        _S.STOPPED: {_E.STOPPED: _S.STOPPED, _E.CONTINUED: _S.RUNNING},
    },
)
