# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a frontend stands on its way to a QEMU."""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from typing import Final

from vccid.machine import Machine


class State(StrEnum):
    """One call's state; `vccidctl status` has these words."""

    #: until it is time to dial, or to listen
    WAITING = auto()
    DIALLING = auto()
    LISTENING = auto()
    #: both sides have greeted each other
    ATTACHED = auto()
    CLOSED = auto()


class Event(Enum):
    """What moves it: we (1), the peer (2)."""

    DIAL = auto()
    #: a dial or its connection came to its end: dial again, but not at once
    WAIT = auto()
    #: the socket is there, or a connection at it came to its end
    LISTEN = auto()
    CLOSE = auto()

    GREETED = auto()


_S, _E = State, Event

#: Who dials moves by DIAL and WAIT, who listens by LISTEN. CLOSED stays: tasks that dial or serve
#: end a moment after it, and who is through TLS's handshake only then does not come in.
CALL: Final = Machine(
    "call to a QEMU",
    "QEMU takes one client at a socket, and lets others wait unheard",
    _S.WAITING,
    {
        _S.WAITING: {_E.DIAL: _S.DIALLING, _E.LISTEN: _S.LISTENING, _E.CLOSE: _S.CLOSED},
        _S.DIALLING: {_E.WAIT: _S.WAITING, _E.CLOSE: _S.CLOSED, _E.GREETED: _S.ATTACHED},
        _S.LISTENING: {_E.LISTEN: _S.LISTENING, _E.CLOSE: _S.CLOSED, _E.GREETED: _S.ATTACHED},
        _S.ATTACHED: {_E.WAIT: _S.WAITING, _E.LISTEN: _S.LISTENING, _E.CLOSE: _S.CLOSED},
        _S.CLOSED: {
            _E.DIAL: _S.CLOSED,
            _E.WAIT: _S.CLOSED,
            _E.LISTEN: _S.CLOSED,
            _E.CLOSE: _S.CLOSED,
            _E.GREETED: _S.CLOSED,
        },
    },
)
