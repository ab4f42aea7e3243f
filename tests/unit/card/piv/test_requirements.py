# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/piv.md's table of what the standard demands is what the tests show."""

from __future__ import annotations

from tests.unit.card.piv.requirements import (
    BEGIN,
    DOCUMENT,
    END,
    NOT_APPLICABLE,
    REQUIREMENTS,
    rows,
    shown,
    table,
)


def test_the_table_is_that_of_the_tests() -> None:
    written = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    assert written == table(), ".venv/bin/python -m tests.unit.card.piv.requirements"


def test_what_does_not_apply_is_not_shown() -> None:
    assert not NOT_APPLICABLE.keys() & shown().keys()
    assert NOT_APPLICABLE.keys() <= REQUIREMENTS.keys()


def test_nearly_everything_is_met() -> None:
    states = [state for _, _, state in rows() if not state.startswith("not applicable")]
    assert sum(state.startswith("met") for state in states) >= 0.95 * len(states)
