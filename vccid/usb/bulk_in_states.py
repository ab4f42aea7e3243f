# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where bulk-IN stands with the message that goes out at it (USB 2.0, 5.8.3)."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

from vccid.machine import Machine


class State(IntEnum):
    """What the host has had of the last message."""

    #: all of it, or there was none
    WHOLE = auto()
    #: a part
    PARTLY = auto()
    #: all bytes, but it may wait for the empty packet that closes the message
    UNCLOSED = auto()


class Event(IntEnum):
    """What moves it: how a transfer of the host ended (1), what else the host did (2)."""

    #: with a part; there is more
    PIECE = auto()
    #: with the message's end in a short packet, or before the transfer was full
    LAST_PIECE = auto()
    #: with the message's end in a full packet, which filled the transfer
    LAST_PIECE_FULL = auto()
    EMPTY_PACKET = auto()
    #: with less room than the packet needed: the rest of the message is lost
    OVERFLOW = auto()

    #: the next command to the message's slot
    NEXT_COMMAND = auto()
    #: SET_CONFIGURATION, SET_INTERFACE, or a reset of the port
    RESET = auto()


_S, _E = State, Event

#: 5.8.3: a host may read in pieces, and then takes a full last packet for one in the middle. One
#: that sends the slot's next command has seen by dwLength that the message was whole.
BULK_IN_MESSAGE: Final = Machine(
    "message at bulk-IN",
    "USB 2.0, 5.8.3; CCID rev 1.1, 6.2",
    _S.WHOLE,
    {
        _S.WHOLE: {
            _E.PIECE: _S.PARTLY,
            _E.LAST_PIECE: _S.WHOLE,
            _E.LAST_PIECE_FULL: _S.UNCLOSED,
            _E.OVERFLOW: _S.WHOLE,
            _E.RESET: _S.WHOLE,
        },
        _S.PARTLY: {
            _E.PIECE: _S.PARTLY,
            _E.LAST_PIECE: _S.WHOLE,
            _E.LAST_PIECE_FULL: _S.UNCLOSED,
            _E.OVERFLOW: _S.WHOLE,
            _E.RESET: _S.WHOLE,
        },
        _S.UNCLOSED: {
            _E.EMPTY_PACKET: _S.WHOLE,
            _E.NEXT_COMMAND: _S.WHOLE,
            _E.RESET: _S.WHOLE,
        },
    },
)
