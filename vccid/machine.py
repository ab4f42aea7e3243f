# SPDX-License-Identifier: LGPL-2.1-or-later
"""State machines as data: a table each, by which the code moves and docs/machines.md is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from vccid.errors import LocalProtocolError

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


@dataclass(frozen=True)
class Machine(Generic[S, E]):
    """One machine: its states, and where each event leads from each.

    Attributes:
        name: what it is the state of.
        source: the standard or the rule that it follows.
        initial: where it begins.
        transitions: an event that is missing in a state cannot happen there.
    """

    name: str
    source: str
    initial: S
    transitions: Mapping[S, Mapping[E, S]]

    def after(self, state: S, event: E) -> S:
        """The state that `event` leads to.

        Raises:
            LocalProtocolError: it cannot happen in this state: a fault of vccid's.
        """
        try:
            return self.transitions[state][event]
        except KeyError:
            raise LocalProtocolError(f"{event.name} in state {state.name}") from None
