# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a peer of the USB/IP server stands (Linux: Documentation/usb/usbip_protocol.rst)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """One connection's state, as far as its bytes go."""

    #: its request has not come, or not wholly
    REQUEST = auto()
    #: OP_REQ_DEVLIST came: nothing follows
    LISTING = auto()
    #: OP_REQ_IMPORT came, and was not granted yet
    IMPORTING = auto()
    #: the device is the peer's; vhci's socket begins here
    IMPORTED = auto()


class Event(Enum):
    """What moves it: the peer's request (1), the server's answer (2)."""

    DEVLIST = auto()
    IMPORT = auto()

    GRANTED = auto()


_S, _E = State, Event

#: A refusal ends the connection, so it has no state.
USBIP_PEER: Final = Machine(
    "peer of the USB/IP server",
    "Linux, Documentation/usb/usbip_protocol.rst",
    _S.REQUEST,
    {
        _S.REQUEST: {_E.DEVLIST: _S.LISTING, _E.IMPORT: _S.IMPORTING},
        _S.LISTING: {},
        _S.IMPORTING: {_E.GRANTED: _S.IMPORTED},
        _S.IMPORTED: {},
    },
)
