# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the slot machine asks of its owner, which has the card, the person and the clock.

`work` numbers one piece of work; the owner gives it back with the result, and a result for
work that was given up meanwhile is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vccid.ccid.pin_entry import PinRequest


@dataclass(slots=True)
class PowerOn:
    """Begin a session with the card, ending one there is; answer `powered` or `failed`."""

    slot: int
    work: int


@dataclass(slots=True)
class PowerOff:
    """End the session, if there is one. No answer."""

    slot: int


@dataclass(slots=True)
class Transmit:
    """Let the card execute a command; answer `answered` or `failed`."""

    slot: int
    work: int
    apdu: bytes = field(repr=False)


@dataclass(slots=True)
class AskPin:
    """Let a person type; answer `typed` or `not_typed`."""

    slot: int
    work: int
    request: PinRequest


@dataclass(slots=True)
class Cancel:
    """Give up a PowerOn or an AskPin: nobody waits for its result any more."""

    slot: int
    work: int


@dataclass(slots=True)
class Noticed:
    """The host has been shown what the slot's last change was; `stamp` is that change's."""

    slot: int
    stamp: int


Action = PowerOn | PowerOff | Transmit | AskPin | Cancel | Noticed
