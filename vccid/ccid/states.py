# SPDX-License-Identifier: LGPL-2.1-or-later
"""The state table of a slot, and what each command needs of it (CCID rev 1.1, 6.1, 6.2.6)."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final

from vccid.ccid.codes import IccStatus
from vccid.ccid.messages import (
    T0APDU,
    Command,
    GetParameters,
    IccClock,
    IccPowerOn,
    ResetParameters,
    Secure,
    SetDataRateAndClockFrequency,
    SetParameters,
    XfrBlock,
)
from vccid.machine import Machine


class State(IntEnum):
    """One slot's state."""

    ABSENT = auto()
    INACTIVE = auto()
    #: IccPowerOn is under way
    POWERING = auto()
    ACTIVE = auto()
    #: the card executes a command
    WORKING = auto()
    #: a person types a PIN
    TYPING = auto()
    #: the command was aborted; what the card still answers is thrown away
    DRAINING = auto()


class Event(IntEnum):
    """What moves a slot: the card (1), the host's commands (2), the owner's results (3)."""

    INSERTED = auto()
    REMOVED = auto()

    POWER_ON = auto()
    POWER_OFF = auto()
    TRANSMIT = auto()
    ASK_PIN = auto()
    ABORT = auto()
    #: USB reset, SET_CONFIGURATION, SET_INTERFACE
    RESET = auto()

    POWERED = auto()
    ANSWERED = auto()
    TYPED = auto()
    NOT_TYPED = auto()
    #: the card, its reader or its pad failed, or the card stayed mute
    FAILED = auto()


_S, _E = State, Event

#: What is not here cannot happen: a command is refused before, a result is of no work.
SLOT: Final = Machine(
    "slot",
    "CCID rev 1.1, 6.1, 6.2.6",
    _S.ABSENT,
    {
        _S.ABSENT: {
            _E.INSERTED: _S.INACTIVE,
            _E.POWER_OFF: _S.ABSENT,
            _E.ABORT: _S.ABSENT,
            _E.RESET: _S.ABSENT,
        },
        _S.INACTIVE: {
            _E.REMOVED: _S.ABSENT,
            _E.POWER_ON: _S.POWERING,
            _E.POWER_OFF: _S.INACTIVE,
            _E.ABORT: _S.INACTIVE,
            _E.RESET: _S.INACTIVE,
        },
        _S.POWERING: {
            _E.REMOVED: _S.ABSENT,
            _E.POWERED: _S.ACTIVE,
            _E.FAILED: _S.INACTIVE,
            _E.ABORT: _S.INACTIVE,
            _E.RESET: _S.INACTIVE,
        },
        _S.ACTIVE: {
            _E.REMOVED: _S.ABSENT,
            _E.POWER_ON: _S.POWERING,
            _E.POWER_OFF: _S.INACTIVE,
            _E.TRANSMIT: _S.WORKING,
            _E.ASK_PIN: _S.TYPING,
            _E.ABORT: _S.ACTIVE,
            _E.RESET: _S.INACTIVE,
        },
        _S.WORKING: {
            _E.REMOVED: _S.ABSENT,
            _E.ANSWERED: _S.ACTIVE,
            _E.FAILED: _S.INACTIVE,
            _E.ABORT: _S.DRAINING,
            _E.RESET: _S.INACTIVE,
        },
        _S.TYPING: {
            _E.REMOVED: _S.ABSENT,
            _E.TYPED: _S.WORKING,
            _E.NOT_TYPED: _S.ACTIVE,
            _E.FAILED: _S.INACTIVE,
            _E.ABORT: _S.ACTIVE,
            _E.RESET: _S.INACTIVE,
        },
        _S.DRAINING: {
            _E.REMOVED: _S.ABSENT,
            _E.ANSWERED: _S.ACTIVE,
            _E.FAILED: _S.INACTIVE,
            _E.ABORT: _S.DRAINING,
            _E.RESET: _S.INACTIVE,
        },
    },
)

#: bmICCStatus in each state.
ICC_STATUS: Final = {
    _S.ABSENT: IccStatus.ABSENT,
    _S.INACTIVE: IccStatus.INACTIVE,
    _S.POWERING: IccStatus.INACTIVE,
    _S.ACTIVE: IccStatus.ACTIVE,
    _S.WORKING: IccStatus.ACTIVE,
    _S.TYPING: IccStatus.ACTIVE,
    _S.DRAINING: IccStatus.ACTIVE,
}

#: A command is executed: another one is answered CMD_SLOT_BUSY.
BUSY: Final = frozenset((_S.POWERING, _S.WORKING, _S.TYPING))

#: The least a command needs; those not named work without a card.
NEEDS: Final[dict[type[Command], IccStatus]] = {
    IccPowerOn: IccStatus.INACTIVE,
    XfrBlock: IccStatus.ACTIVE,
    Secure: IccStatus.ACTIVE,
    GetParameters: IccStatus.ACTIVE,
    ResetParameters: IccStatus.ACTIVE,
    SetParameters: IccStatus.ACTIVE,
    IccClock: IccStatus.ACTIVE,
    T0APDU: IccStatus.INACTIVE,
    SetDataRateAndClockFrequency: IccStatus.INACTIVE,
}
