# SPDX-License-Identifier: LGPL-2.1-or-later
"""How far a host's driver has come with a reader, from one silence to the next."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """What the host has done since it last was silent."""

    QUIET = auto()
    #: for the slot's status, and for nothing else
    ASKED = auto()
    #: powers the card, or waits for news of the slots
    OPENED = auto()


class Event(Enum):
    """What moves it: the host (1), time (2)."""

    STATUS = auto()
    OTHER_COMMAND = auto()
    #: at the interrupt pipe; libccid, while it opens one, listens for old news before it asks
    LISTENS = auto()

    SILENCE = auto()


_S, _E = State, Event

#: A SILENCE in ASKED: the driver gave the reader up.
OPENING: Final = Machine(
    "opening of a reader by a host's driver",
    "libccid 1.5.2 to 1.8.2, ifdhandler.c",
    _S.QUIET,
    {
        _S.QUIET: {
            _E.STATUS: _S.ASKED,
            _E.OTHER_COMMAND: _S.OPENED,
            _E.LISTENS: _S.QUIET,
            _E.SILENCE: _S.QUIET,
        },
        _S.ASKED: {
            _E.STATUS: _S.ASKED,
            _E.OTHER_COMMAND: _S.OPENED,
            _E.LISTENS: _S.OPENED,
            _E.SILENCE: _S.QUIET,
        },
        _S.OPENED: {
            _E.STATUS: _S.OPENED,
            _E.OTHER_COMMAND: _S.OPENED,
            _E.LISTENS: _S.OPENED,
            _E.SILENCE: _S.QUIET,
        },
    },
)
