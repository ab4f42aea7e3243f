# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether one session has verified the PIN, and whether a key was used since."""

from __future__ import annotations

from typing import Final

from vccid.card.pin_status_states import PIN_STATUS, Event, State

#: Looked up once, not for every command.
_UNVERIFIED: Final = State.UNVERIFIED


class PinStatus:
    """The PIN's part of a session's security status."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = PIN_STATUS.initial

    @property
    def is_verified(self) -> bool:
        """Whether the PIN was verified."""
        return self._state is not _UNVERIFIED

    @property
    def is_fresh(self) -> bool:
        """Whether no key was used since it was."""
        return self._state is State.FRESH

    def right(self) -> None:
        """The PIN was compared, and is right."""
        self._move(Event.RIGHT)

    def fall(self) -> None:
        """What was verified is so no longer."""
        self._move(Event.FELL)

    def key_used(self) -> None:
        """A key did something."""
        self._move(Event.KEY_USED)

    def _move(self, event: Event) -> None:
        self._state = PIN_STATUS.after(self._state, event)
