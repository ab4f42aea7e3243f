# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card's presence as the host was shown it (CCID rev 1.1, 6.2.6, 6.3.1).

6.3.1: a host that was shown the card before must be shown the empty slot first, else it takes
the next card for that one. So a card may be in the reader and still be held back here.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.ccid.codes import IccStatus
from vccid.machine import Machine


class State(Enum):
    """What is there, and what the host has been shown of it."""

    #: no card, and the host knows of none
    EMPTY = auto()
    #: a card the host has not been shown
    CAME = auto()
    #: a card the host has been shown
    SHOWN = auto()
    #: no card, but the host was shown one
    LEFT = auto()
    #: another card, held back until the host has been shown the empty slot
    HELD_BACK = auto()


class Event(Enum):
    """What moves it."""

    INSERTED = auto()
    REMOVED = auto()
    #: the host fetched a message that tells the slot as it is shown
    SEEN = auto()
    #: the host had its time to see the empty slot, and has or never will
    SETTLED = auto()
    #: USB reset, SET_CONFIGURATION, SET_INTERFACE
    RESET = auto()


_S, _E = State, Event

PRESENCE: Final = Machine(
    "presence as the host was shown it",
    "CCID rev 1.1, 6.2.6 and 6.3.1",
    _S.EMPTY,
    {
        _S.EMPTY: {
            _E.INSERTED: _S.CAME,
            _E.SEEN: _S.EMPTY,
            _E.SETTLED: _S.EMPTY,
            _E.RESET: _S.EMPTY,
        },
        _S.CAME: {
            _E.REMOVED: _S.EMPTY,
            _E.SEEN: _S.SHOWN,
            _E.SETTLED: _S.CAME,
            _E.RESET: _S.CAME,
        },
        _S.SHOWN: {
            _E.REMOVED: _S.LEFT,
            _E.SEEN: _S.SHOWN,
            _E.SETTLED: _S.SHOWN,
            _E.RESET: _S.CAME,
        },
        _S.LEFT: {
            _E.INSERTED: _S.HELD_BACK,
            _E.SEEN: _S.EMPTY,
            _E.SETTLED: _S.EMPTY,
            _E.RESET: _S.EMPTY,
        },
        _S.HELD_BACK: {
            _E.REMOVED: _S.LEFT,
            _E.SEEN: _S.CAME,
            _E.SETTLED: _S.CAME,
            _E.RESET: _S.CAME,
        },
    },
)

_PRESENT: Final = frozenset((_S.CAME, _S.SHOWN))


class Presence:
    """One slot's presence, to one host.

    Attributes:
        state: what is there, and what the host has been shown.
        stamp: the owner's mark of the last change that may be shown.
        told: bmICCStatus of the last response the host has had.
    """

    def __init__(self) -> None:
        self.state = PRESENCE.initial
        self.stamp = 0
        self.told = IccStatus.ABSENT
        self._held_back = 0
        self._noticed = 0

    @property
    def is_shown(self) -> bool:
        """A card is in, as far as the host is told."""
        return self.state in _PRESENT

    def inserted(self, stamp: int) -> bool:
        """A card came in; whether it may be shown at once."""
        self._move(_E.INSERTED)
        if self.state is _S.HELD_BACK:
            self._held_back = stamp
            return False
        self.stamp = stamp
        return True

    def removed(self, stamp: int) -> bool:
        """The card left; whether it was one the host could see."""
        was_shown = self.is_shown
        self._move(_E.REMOVED)
        self.stamp = stamp
        return was_shown

    def settled(self) -> bool:
        """The host had its time; whether a card that was held back is to be shown now."""
        return self._shows(_E.SETTLED)

    def reset(self) -> bool:
        """As if just plugged in; whether a card that was held back is to be shown now."""
        return self._shows(_E.RESET)

    def tells_now(self, present: bool, stamp: int) -> bool:
        """Whether a message, made when `stamp` was the last change, tells how it is now."""
        return stamp == self.stamp and present is self.is_shown

    def seen(self) -> bool:
        """The host fetched how it is now; whether a card held back is to be shown now."""
        return self._shows(_E.SEEN)

    def first_noticed(self) -> bool:
        """The host has noticed the last change; whether for the first time."""
        if self._noticed == self.stamp:
            return False
        self._noticed = self.stamp
        return True

    def _shows(self, event: Event) -> bool:
        held_back = self.state is _S.HELD_BACK
        self._move(event)
        if held_back:
            self.stamp = self._held_back
        return held_back

    def _move(self, event: Event) -> None:
        self.state = PRESENCE.after(self.state, event)
