# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a driver's COMMANDS connection stands (docs/ifd-protocol.md)."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

from vccid.machine import Machine


class State(IntEnum):
    """One connection's state."""

    #: for a command
    READY = auto()
    #: the card works on one, and BUSY is sent meanwhile
    WAITING = auto()
    CLOSED = auto()


class Event(IntEnum):
    """What moves it: the driver (1), the card (2)."""

    #: a command whose answer is to come; one that is answered at once leaves it READY
    COMMAND = auto()
    #: it hung up
    LOST = auto()

    ANSWERED = auto()


_S, _E = State, Event

#: A command in WAITING breaks the protocol. In CLOSED the card's answer reaches nobody, and a
#: session that begins only then ends at once.
COMMANDS_CONNECTION: Final = Machine(
    "COMMANDS connection of pcscd's driver",
    "docs/ifd-protocol.md",
    _S.READY,
    {
        _S.READY: {_E.COMMAND: _S.WAITING, _E.LOST: _S.CLOSED},
        _S.WAITING: {_E.LOST: _S.CLOSED, _E.ANSWERED: _S.READY},
        _S.CLOSED: {_E.ANSWERED: _S.CLOSED},
    },
)
