# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a connection to a usb-guest stands (usbredir: docs/usb-redirection-protocol.md)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """One connection's state."""

    #: our hello is on its way
    HELLO_SENT = auto()
    #: the device is in the guest
    PLUGGED = auto()
    #: likewise, and the guest listens at the interrupt endpoint
    RECEIVING = auto()
    #: device_disconnect was sent
    UNPLUGGED = auto()
    #: the guest does not take the device
    REJECTED = auto()
    CLOSED = auto()


class Event(Enum):
    """What moves it: the guest's messages (1), we (2), the connection (3)."""

    HELLO = auto()
    START_INTERRUPT_RECEIVING = auto()
    STOP_INTERRUPT_RECEIVING = auto()
    FILTER_REJECT = auto()

    #: the stream ended by itself: a reset, a stall
    STREAM_ENDED = auto()
    LEAVE = auto()

    LOST = auto()


_S, _E = State, Event

USBREDIR_CONNECTION: Final = Machine(
    "connection to a usb-guest",
    "usbredir protocol 0.7",
    _S.HELLO_SENT,
    {
        _S.HELLO_SENT: {_E.HELLO: _S.PLUGGED, _E.LOST: _S.CLOSED},
        _S.PLUGGED: {
            _E.START_INTERRUPT_RECEIVING: _S.RECEIVING,
            _E.FILTER_REJECT: _S.REJECTED,
            _E.LEAVE: _S.UNPLUGGED,
            _E.LOST: _S.CLOSED,
        },
        _S.RECEIVING: {
            _E.STOP_INTERRUPT_RECEIVING: _S.PLUGGED,
            _E.STREAM_ENDED: _S.PLUGGED,
            _E.FILTER_REJECT: _S.REJECTED,
            _E.LEAVE: _S.UNPLUGGED,
            _E.LOST: _S.CLOSED,
        },
        _S.UNPLUGGED: {_E.FILTER_REJECT: _S.UNPLUGGED, _E.LOST: _S.CLOSED},
        _S.REJECTED: {_E.FILTER_REJECT: _S.REJECTED, _E.LOST: _S.CLOSED},
        _S.CLOSED: {},
    },
)
