# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one session has shown of the PIN."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """The PIN's part of a session's security status."""

    UNVERIFIED = auto()
    #: verified, and no key was used since
    FRESH = auto()
    VERIFIED = auto()


class Event(Enum):
    """What moves it."""

    RIGHT = auto()
    #: a wrong one; or what was verified is no longer, or to be forgotten
    FELL = auto()
    KEY_USED = auto()


_S, _E = State, Event

#: A CAC, and a PIV key with the policy "once", ask for no more than that it was verified; "always"
#: asks for FRESH. Where a key needs no PIN its use is told all the same.
PIN_STATUS: Final = Machine(
    "PIN in a session's security status",
    "SP 800-73-5 part 2, 2.4.2 and table 4's PIN Always; GSC-IS 2.1 knows no FRESH",
    _S.UNVERIFIED,
    {
        _S.UNVERIFIED: {
            _E.RIGHT: _S.FRESH,
            _E.FELL: _S.UNVERIFIED,
            _E.KEY_USED: _S.UNVERIFIED,
        },
        _S.FRESH: {_E.RIGHT: _S.FRESH, _E.FELL: _S.UNVERIFIED, _E.KEY_USED: _S.VERIFIED},
        _S.VERIFIED: {_E.RIGHT: _S.FRESH, _E.FELL: _S.UNVERIFIED, _E.KEY_USED: _S.VERIFIED},
    },
)
