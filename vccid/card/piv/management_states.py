# SPDX-License-Identifier: LGPL-2.1-or-later
"""How far one session has come in proving the management key."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """The management key's part of a session's security status."""

    UNPROVED = auto()
    #: the host is to encrypt what it was given
    CHALLENGED = auto()
    #: the host is to decrypt what it was given, and may have the card encrypt its own
    WITNESSED = auto()
    PROVED = auto()


class Event(Enum):
    """What moves it."""

    CHALLENGE = auto()
    WITNESS = auto()
    PROVED = auto()
    #: a wrong answer, another command before the answer, or another application
    FELL = auto()


_S, _E = State, Event
_BEGINS: Final = {_E.CHALLENGE: _S.CHALLENGED, _E.WITNESS: _S.WITNESSED, _E.FELL: _S.UNPROVED}

#: Who has proved the key and begins anew has it no longer until that ends well: what is gone on
#: with in another way counts as one that failed (2.4.2).
MANAGEMENT: Final = Machine(
    "management key in a session's security status",
    "SP 800-73-5 part 2, 2.4.2 and 3.2.4",
    _S.UNPROVED,
    {
        _S.UNPROVED: _BEGINS,
        _S.CHALLENGED: {**_BEGINS, _E.PROVED: _S.PROVED},
        _S.WITNESSED: {**_BEGINS, _E.PROVED: _S.PROVED},
        _S.PROVED: _BEGINS,
    },
)
