# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PIN's tries, on disk before they are spent and after they are given back. All of it blocks."""

from __future__ import annotations

from dataclasses import replace

from vccid.card.pin_states import PIN, Event, State
from vccid.card.state import MAX_TRIES, PinState, StateStore
from vccid.errors import StateError


class PinCounter:
    """What is on disk of one PIN, as it was read or written last.

    Attributes:
        state: as the table in vccid.card.pin_states has it.
        fault: why what is on disk cannot be used, or None.
        kept: what was read or written last.
    """

    def __init__(self, store: StateStore, serial: str) -> None:
        self.state = PIN.initial
        self.fault: StateError | None = None
        self.kept = PinState(MAX_TRIES)
        self._store = store
        self._serial = serial

    @property
    def tries_left(self) -> int:
        """0 also where nothing was read, or what was cannot be used."""
        return 0 if self.state in (State.UNREAD, State.UNUSABLE) else self.kept.tries_left

    def find(self) -> PinState | None:
        """Read it; None for a card never seen before.

        Raises:
            StateError: it cannot be used.
        """
        try:
            found = self._store.load(self._serial)
        except StateError as error:
            self._unreadable(error)
            raise
        return None if found is None else self._read(found)

    def load(self) -> PinState:
        """Read what is there once the PIN was opened.

        Raises:
            StateError: it cannot be used, or is gone.
        """
        found = self.find()
        if found is None:
            gone = StateError(
                f"PIN state {self._store.path(self._serial)} is gone",
                "vccidctl pin reset makes a new one",
            )
            self._unreadable(gone)
            raise gone
        return found

    def set(self, state: PinState) -> None:
        """Write another state, outside of any try.

        Raises:
            StateError: the disk will not take it.
        """
        self._save(state)
        self._read(state)

    def count(self) -> PinState:
        """Take a try before a PIN is looked at; `give_back` or `spend` has to follow.

        Raises:
            StateError: the disk will not take it, and the PIN is not to be looked at.
        """
        counted = replace(self.kept, tries_left=self.kept.tries_left - 1)
        self._save(counted)
        self._move(Event.COUNTED)
        return counted

    def give_back(self, state: PinState) -> None:
        """The PIN was right, or not judged: write the state that follows.

        Raises:
            StateError: the disk will not take it; the try is spent.
        """
        self._save(state)
        self._move(Event.GIVEN_BACK)

    def spend(self) -> None:
        """A try that was not given back is spent, whatever the reason."""
        if self.state is State.CHECKING:
            self._move(Event.SPENT if self.kept.tries_left else Event.SPENT_LAST)

    def _save(self, state: PinState) -> None:
        self._store.save(self._serial, state)
        self.kept = state

    def _read(self, state: PinState) -> PinState:
        self.fault = None
        self.kept = state
        self._move(Event.READ if state.tries_left else Event.READ_NONE)
        return state

    def _unreadable(self, error: StateError) -> None:
        self.fault = error
        self._move(Event.UNREADABLE)

    def _move(self, event: Event) -> None:
        self.state = PIN.after(self.state, event)
