# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a session's commands have in common: the card's parts, and a way to wait."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from vccid.card.pin import Pin
from vccid.card.piv.contents import CardMemory
from vccid.card.piv.objects import Objects
from vccid.card.piv.personalisation import Personalisation
from vccid.card.piv.pins import Puk
from vccid.card.piv.profiles import PLAIN, Profile
from vccid.card.touch import Touch
from vccid.errors import KeyOperationError, StateError, TokenGone

T = TypeVar("T")

_log = logging.getLogger(__name__)


class WaitFor(Protocol):
    """Waits for blocking work, but no longer than a session lasts."""

    def __call__(self, work: Awaitable[T]) -> Coroutine[Any, Any, T]:
        """Raises CardRemoved where the session ended meanwhile."""


@dataclass(frozen=True, slots=True)
class PivParts:
    """What all sessions with one card share.

    Attributes:
        memory: objects and keys.
        pin: the application PIN.
        puk: the PUK.
        personalisation: card management.
        objects: reads objects.
        serial: the card's serial number, for the log.
        profile: whom it is taken for.
        touch: where it is touched.
    """

    memory: CardMemory
    pin: Pin
    puk: Puk
    personalisation: Personalisation
    objects: Objects
    serial: str
    profile: Profile = PLAIN
    touch: Touch = field(default_factory=Touch)


def report(error: StateError | TokenGone | KeyOperationError, answer: bytes, serial: str) -> bytes:
    """The status word for what failed; the log has the reason."""
    _log.error("%s; %s", error.message, error.hint, extra={"card": serial})
    return answer
