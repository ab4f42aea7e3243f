# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a card that has one security state: a real one, or a far one."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """A card's state."""

    FREE = auto()
    #: a host has it, and may lose it once it has sent nothing for the idle time
    OWNED = auto()
    #: a host has it, and waits for an answer
    AT_WORK = auto()


class Event(Enum):
    """What moves it."""

    #: a host powered it on
    TAKEN = auto()
    COMMAND = auto()
    #: the last command was answered
    ANSWERED = auto()
    #: powered off, gone, or idle while another host asked for it
    ENDED = auto()


_S, _E = State, Event

#: Another host's power-on in OWNED is an ENDED and a TAKEN where the owner is idle, and fails
#: in AT_WORK: what one host has verified must not be the next one's.
OWNERSHIP: Final = Machine(
    "ownership of a card that is not ours",
    "a card in a reader has one security state (ISO/IEC 7816-4, 5.6), and hosts are several",
    _S.FREE,
    {
        _S.FREE: {_E.TAKEN: _S.OWNED},
        _S.OWNED: {_E.COMMAND: _S.AT_WORK, _E.ENDED: _S.FREE},
        _S.AT_WORK: {_E.COMMAND: _S.AT_WORK, _E.ANSWERED: _S.OWNED, _E.ENDED: _S.FREE},
    },
)
