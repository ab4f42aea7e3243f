# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every state machine: its page, and that its table holds together."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from tests.docs.machines import PAGE, machines, page
from vccid.errors import LocalProtocolError
from vccid.machine import Machine

MACHINES = [machine for _, machine in machines()]
each = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


def test_the_page_is_that_of_the_code() -> None:
    assert PAGE.read_text() == page()


@each
def test_every_state_can_be_reached(machine: Machine[Any, Any]) -> None:
    reached, new = set[Enum](), {machine.initial}
    while new:
        reached |= new
        new = {after for state in new for after in machine.transitions[state].values()} - reached
    assert reached == set(type(machine.initial)) == set(machine.transitions)


@each
def test_every_event_moves_something(machine: Machine[Any, Any]) -> None:
    events = {event for moves in machine.transitions.values() for event in moves}
    assert events == set(type(next(iter(events))))


@each
def test_what_the_table_lacks_is_a_fault_of_ours(machine: Machine[Any, Any]) -> None:
    events = {event for moves in machine.transitions.values() for event in moves}
    for state, moves in machine.transitions.items():
        for event in events - set(moves):
            with pytest.raises(LocalProtocolError, match=f"{event.name} in state {state.name}"):
                machine.after(state, event)
