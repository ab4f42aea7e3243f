# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a program of PC/SC and we come to one version of the protocol."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """One connection's state."""

    UNSAID = auto()
    AGREED = auto()
    #: asked to say another one, which it may do once
    CORRECTED = auto()
    #: said one that is none of ours again: it is let go
    REFUSED = auto()


class Event(Enum):
    """What moves it: versions that the program says."""

    KNOWN = auto()
    UNKNOWN = auto()


_S, _E = State, Event

VERSION: Final = Machine(
    "version that a program of PC/SC speaks",
    "pcsc-lite 1.9.9 to 2.5.1, winscard_svc.c and winscard_clnt.c",
    _S.UNSAID,
    {
        _S.UNSAID: {_E.KNOWN: _S.AGREED, _E.UNKNOWN: _S.CORRECTED},
        _S.AGREED: {_E.KNOWN: _S.AGREED, _E.UNKNOWN: _S.CORRECTED},
        _S.CORRECTED: {_E.KNOWN: _S.AGREED, _E.UNKNOWN: _S.REFUSED},
        _S.REFUSED: {},
    },
)
