# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table door × conversation in docs/testing.md, from what a run held.

`Held` collects it in the process that runs pytest; a run over every door writes the table, and a
unit test holds the page beside the doors and conversations there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.conversations import cac, piv
from tests.conversations.doors import DOORS, HELD
from tests.conversations.steps import Conversation

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BEGIN, END = "<!-- doors: made by a whole run -->\n", "<!-- end of doors -->\n"


class Held:
    """What a run has held: pairs of a door's and a conversation's name."""

    def __init__(self) -> None:
        self._pairs: set[tuple[str, str]] = set()

    def take(self, properties: Iterable[tuple[str, object]]) -> None:
        """A test's report."""
        for name, value in properties:
            if name == HELD and isinstance(value, tuple | list):
                self._pairs.add((str(value[0]), str(value[1])))

    @property
    def is_whole(self) -> bool:
        """Whether every door was tried."""
        return {door for door, _ in self._pairs} == {door.name for door in DOORS}

    def write(self) -> None:
        """Write the table, where it is another."""
        text = PAGE.read_text()
        new = with_table(text, self._pairs)
        if new != text:
            PAGE.write_text(new)


def with_table(text: str, held: set[tuple[str, str]]) -> str:
    """The page with its table made anew."""
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[:begin] + table(held) + text[end:]


def table(held: set[tuple[str, str]]) -> str:
    """A row a door for each card; a number is a hole, whose reason stands below."""
    reasons: list[str] = []
    lines = _rows(held, "a CAC", cac.CONVERSATIONS, reasons)
    lines += ["", *_rows(held, "a PIV card", piv.CONVERSATIONS, reasons), ""]
    lines += [f"{number}. {why}." for number, why in enumerate(reasons, 1)]
    return "\n".join(lines) + "\n"


def _rows(
    held: set[tuple[str, str]],
    card: str,
    conversations: Sequence[Conversation],
    reasons: list[str],
) -> list[str]:
    lines = [
        f"| door | from the program to the card | conversations with {card} | not, and why |",
        "| --- | --- | --- | --- |",
    ]
    for door in DOORS:
        holes: dict[str, list[str]] = {}
        count = 0
        for conversation in conversations:
            if (door.name, conversation.name) in held:
                count += 1
            else:
                why = door.hole(conversation) or "**missing**"
                holes.setdefault(why, []).append(conversation.name)
        told = "; ".join(
            f"{', '.join(names)}: {_number(reasons, why)}" for why, names in holes.items()
        )
        lines.append(f"| {door.name} | {door.way} | {count} of {len(conversations)} | {told} |")
    return lines


def _number(reasons: list[str], why: str) -> str:
    if why not in reasons:
        reasons.append(why)
    return f"({reasons.index(why) + 1})"


def expected() -> set[tuple[str, str]]:
    """All that can be held."""
    every = [*cac.CONVERSATIONS, *piv.CONVERSATIONS]
    return {(door.name, held.name) for door in DOORS for held in door.open_to(every)}
