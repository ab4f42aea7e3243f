# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a connection to a VSC host stands (libcacard: docs; QEMU: hw/usb/ccid-card-passthru.c)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from vccid.machine import Machine


class State(Enum):
    """One connection's state."""

    #: our VSC_Init is on its way
    INIT_SENT = auto()
    #: VSC_ReaderAdd waits for its answer
    ADDING = auto()
    #: our reader is in the guest, without a card
    EMPTY = auto()
    #: likewise, and the guest's driver has time to notice before a card's VSC_ATR
    RESTING = auto()
    #: VSC_ATR was sent
    CARD = auto()
    #: VSC_ReaderRemove waits for its answer
    LEAVING = auto()
    CLOSED = auto()


class Event(Enum):
    """What moves it: the host's messages (1), the reader and its card (2), the connection (3)."""

    INIT = auto()
    READER_ADDED = auto()

    CARD_SHOWN = auto()
    CARD_HIDDEN = auto()
    REST = auto()
    RESTED = auto()

    LEAVE = auto()
    LOST = auto()


_S, _E = State, Event

#: QEMU sends VSC_Init when it starts and again in answer to ours. QEMU's card is exchanged only
#: through EMPTY: of a VSC_CardRemove and a VSC_ATR at once the guest is told nothing.
VSC_CONNECTION: Final = Machine(
    "connection to a VSC host",
    "libcacard's VSC protocol, as QEMU's ccid-card-passthru takes it",
    _S.INIT_SENT,
    {
        _S.INIT_SENT: {_E.INIT: _S.ADDING, _E.LOST: _S.CLOSED},
        _S.ADDING: {_E.INIT: _S.ADDING, _E.READER_ADDED: _S.EMPTY, _E.LOST: _S.CLOSED},
        _S.EMPTY: {
            _E.INIT: _S.EMPTY,
            _E.CARD_SHOWN: _S.CARD,
            _E.REST: _S.RESTING,
            _E.LEAVE: _S.LEAVING,
            _E.LOST: _S.CLOSED,
        },
        _S.RESTING: {
            _E.INIT: _S.RESTING,
            _E.RESTED: _S.EMPTY,
            _E.LEAVE: _S.LEAVING,
            _E.LOST: _S.CLOSED,
        },
        _S.CARD: {
            _E.INIT: _S.CARD,
            _E.CARD_HIDDEN: _S.EMPTY,
            _E.LOST: _S.CLOSED,
        },
        _S.LEAVING: {_E.INIT: _S.LEAVING, _E.LOST: _S.CLOSED},
        _S.CLOSED: {},
    },
)
