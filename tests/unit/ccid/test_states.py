# SPDX-License-Identifier: LGPL-2.1-or-later
"""The slot's states as docs/ccid.md draws and tabulates them are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from vccid.ccid.states import BUSY, ICC_STATUS, SLOT, Event, State

PAGE = (Path(__file__).parents[3] / "docs" / "ccid.md").read_text()
#: The table's columns; the last has the owner's results.
COLUMNS = ("INSERTED", "REMOVED", "POWER_ON", "POWER_OFF", "TRANSMIT", "ASK_PIN", "ABORT", "RESET")


def tabulated() -> dict[State, tuple[int, dict[Event, State]]]:
    """bmICCStatus and transitions of each state, from the page's table."""
    found = {}
    for row in re.findall(r"^\| ([A-Z]+) \| (.+) \|$", PAGE, re.MULTILINE):
        state, (status, *cells) = State[row[0]], [cell.strip() for cell in row[1].split("|")]
        *targets, results = cells
        moves = {
            Event[event]: State[target]
            for event, target in zip(COLUMNS, targets, strict=True)
            if target != "–"
        }
        for event, target in re.findall(r"([A-Z_]+): ([A-Z]+)", results):
            moves[Event[event]] = State[target]
        found[state] = (int(status), moves)
    return found


def test_the_table_of_the_page() -> None:
    assert tabulated() == {
        state: (ICC_STATUS[state], moves) for state, moves in SLOT.transitions.items()
    }


def test_every_arrow_of_the_drawing_is_there() -> None:
    drawing = PAGE[PAGE.index("    ABSENT ──INSERTED") : PAGE.index("| state | bmICCStatus")]
    words = set(re.findall(r"[A-Z_]{3,}", drawing))
    assert words == {state.name for state in State} | {event.name for event in Event}
    one = drawing[: drawing.index("every state but")]
    for before, event, after in re.findall(r"([A-Z]+) ──([A-Z_]+)─+▶ ([A-Z]+)", one):
        assert SLOT.transitions[State[before]][Event[event]] is State[after]


def test_what_is_busy() -> None:
    listed = re.search(r"^([A-Z, a-z]+) are busy: any other command", PAGE, re.MULTILINE)
    assert listed is not None
    assert {State[name] for name in re.findall(r"[A-Z]{3,}", listed[1])} == BUSY
