# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of doors and conversations on docs/testing.md is whole."""

from __future__ import annotations

from tests.conversations import cac, piv
from tests.conversations.doors import DOORS
from tests.docs.doors import PAGE, Held, expected, with_table


def test_the_page_tells_of_every_door_and_conversation() -> None:
    text = PAGE.read_text()
    assert with_table(text, expected()) == text


def test_a_conversation_that_was_not_held_is_missed() -> None:
    text = PAGE.read_text()
    assert "**missing**" in with_table(text, expected() - {("vhci", "login")})


def test_only_a_run_over_every_door_is_whole() -> None:
    held = Held()
    for door in DOORS[1:]:
        held.take([("conversation held", (door.name, "login"))])
    assert not held.is_whole
    held.take([("conversation held", [DOORS[0].name, "login"])])
    assert held.is_whole


def test_names_are_unique() -> None:
    for names in (
        [door.name for door in DOORS],
        [held.name for held in (*cac.CONVERSATIONS, *piv.CONVERSATIONS)],
    ):
        assert len(set(names)) == len(names)
