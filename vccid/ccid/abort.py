# SPDX-License-Identifier: LGPL-2.1-or-later
"""The abort handshake: a control request and a bulk message of one bSeq (CCID rev 1.1, 5.3.1)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """Which halves of an abort have come."""

    NONE = auto()
    CONTROL = auto()
    BULK = auto()
    #: both, of one bSeq; the card may still execute the command
    BOTH = auto()


class Event(Enum):
    """A half, and whether its bSeq is that of the other half there is."""

    CONTROL_MATCHES = auto()
    CONTROL_DIFFERS = auto()
    BULK_MATCHES = auto()
    BULK_DIFFERS = auto()
    #: PC_to_RDR_Abort is answered
    ANSWERED = auto()
    #: USB reset, SET_CONFIGURATION, SET_INTERFACE
    RESET = auto()


_S, _E = State, Event

#: A half without another one matches. 5.3.1 has the host retry with one bSeq until both halves
#: have come: of two control requests the newer counts, a bulk message that differs fails.
ABORT: Final = Machine(
    "abort handshake",
    "CCID rev 1.1, 5.3.1 and 6.1.13",
    _S.NONE,
    {
        _S.NONE: {
            _E.CONTROL_MATCHES: _S.CONTROL,
            _E.BULK_MATCHES: _S.BULK,
            _E.RESET: _S.NONE,
        },
        _S.CONTROL: {
            _E.CONTROL_MATCHES: _S.CONTROL,
            _E.BULK_MATCHES: _S.BOTH,
            _E.BULK_DIFFERS: _S.CONTROL,
            _E.RESET: _S.NONE,
        },
        _S.BULK: {
            _E.CONTROL_MATCHES: _S.BOTH,
            _E.CONTROL_DIFFERS: _S.CONTROL,
            _E.BULK_MATCHES: _S.BULK,
            _E.RESET: _S.NONE,
        },
        _S.BOTH: {
            _E.CONTROL_MATCHES: _S.BOTH,
            _E.CONTROL_DIFFERS: _S.CONTROL,
            _E.BULK_MATCHES: _S.BOTH,
            _E.BULK_DIFFERS: _S.BOTH,
            _E.ANSWERED: _S.NONE,
            _E.RESET: _S.NONE,
        },
    },
)

#: States with that half.
_HAS_CONTROL: Final = frozenset((_S.CONTROL, _S.BOTH))
_HAS_BULK: Final = frozenset((_S.BULK, _S.BOTH))


class AbortHandshake:
    """One slot's abort.

    Attributes:
        state: which halves have come.
        seq: bSeq of the half that came last and counts; without meaning where there is none.
    """

    def __init__(self) -> None:
        self.state = ABORT.initial
        self.seq = 0

    @property
    def under_way(self) -> bool:
        """A half has come: every other command fails."""
        return self.state is not _S.NONE

    def control(self, seq: int) -> bool:
        """The control request came; False where a bulk message of another bSeq fails by it."""
        fits = self.state not in _HAS_BULK or seq == self.seq
        self._move(_E.CONTROL_MATCHES if fits else _E.CONTROL_DIFFERS)
        self.seq = seq
        return fits

    def bulk(self, seq: int) -> bool:
        """The bulk message came; False where it fails, as it is not the control request's."""
        fits = self.state not in _HAS_CONTROL or seq == self.seq
        self._move(_E.BULK_MATCHES if fits else _E.BULK_DIFFERS)
        if fits:
            self.seq = seq
        return fits

    @property
    def waiting_bulk(self) -> bool:
        """A bulk message is not answered yet."""
        return self.state in _HAS_BULK

    @property
    def complete(self) -> bool:
        """Both halves have come."""
        return self.state is _S.BOTH

    def answered(self) -> None:
        """The bulk message was answered."""
        self._move(_E.ANSWERED)

    def reset(self) -> None:
        """As if just plugged in."""
        self._move(_E.RESET)

    def _move(self, event: Event) -> None:
        self.state = ABORT.after(self.state, event)
