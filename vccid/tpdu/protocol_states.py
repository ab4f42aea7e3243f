# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the transmission protocol of a session is found (ISO/IEC 7816-3:2006, 6.3.1 and 9)."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

from vccid.machine import Machine


class State(IntEnum):
    """One session's state."""

    #: after reset: the first protocol, where the host selects none
    FIRST = auto()
    #: PPS selected one
    SELECTED = auto()
    #: TPDUs go; the protocol stays until the next reset
    CARRIED = auto()


class Event(IntEnum):
    """What the host sends."""

    #: a request that the card confirms
    PPS = auto()
    TPDU = auto()


_S, _E = State, Event

#: With TA2 the card is in specific mode, and what looks like PPS is a TPDU; so it is in CARRIED.
PROTOCOL: Final = Machine(
    "transmission protocol after reset",
    "ISO/IEC 7816-3:2006, 6.3.1 and 9",
    _S.FIRST,
    {
        _S.FIRST: {_E.PPS: _S.SELECTED, _E.TPDU: _S.CARRIED},
        _S.SELECTED: {_E.PPS: _S.SELECTED, _E.TPDU: _S.CARRIED},
        _S.CARRIED: {},
    },
)
