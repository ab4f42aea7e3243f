# SPDX-License-Identifier: LGPL-2.1-or-later
"""A slot's chain of messages for one APDU (CCID rev 1.1, 6.1.4, 6.2.1)."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

from vccid.machine import Machine


class State(IntEnum):
    """What is half-way."""

    NONE = auto()
    #: a command, whose next part is the host's to send
    COMMAND = auto()
    #: a response, whose next part is the host's to ask for
    RESPONSE = auto()


class Event(IntEnum):
    """What moves it: XfrBlock by its wLevelParameter (1), the response (2), all else (3)."""

    WHOLE = auto()
    BEGINS = auto()
    CONTINUES = auto()
    ENDS = auto()
    #: it came out of turn, or too long
    REFUSED = auto()

    RESPONSE_BEGINS = auto()
    RESPONSE_CONTINUES = auto()
    RESPONSE_ENDS = auto()

    #: power on or off, Secure, an abort, a reset, a card that left
    FORGET = auto()


_S, _E = State, Event

#: A host may leave a response where it is, and send the next command.
CHAIN: Final = Machine(
    "chain of messages for one APDU",
    "CCID rev 1.1, 6.1.4 and 6.2.1",
    _S.NONE,
    {
        _S.NONE: {
            _E.WHOLE: _S.NONE,
            _E.BEGINS: _S.COMMAND,
            _E.REFUSED: _S.NONE,
            _E.RESPONSE_BEGINS: _S.RESPONSE,
            _E.FORGET: _S.NONE,
        },
        _S.COMMAND: {
            _E.CONTINUES: _S.COMMAND,
            _E.ENDS: _S.NONE,
            _E.REFUSED: _S.NONE,
            _E.FORGET: _S.NONE,
        },
        _S.RESPONSE: {
            _E.WHOLE: _S.NONE,
            _E.BEGINS: _S.COMMAND,
            _E.REFUSED: _S.NONE,
            _E.RESPONSE_CONTINUES: _S.RESPONSE,
            _E.RESPONSE_ENDS: _S.NONE,
            _E.FORGET: _S.NONE,
        },
    },
)
