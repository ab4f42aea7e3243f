# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/machines.md: every state machine's drawing and table, from the tables in the code.

`python -m tests.docs.machines` writes the page; with `--check` it fails where the page is another.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import vccid
from vccid.machine import Machine

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "machines.md"
HEAD = """# The state machines

Made from the tables in the code by `./dev format`; `./dev lint` fails where they differ. An event
that is missing in a state cannot happen there: were it to, that would be a fault of vccid's.
"""


def machines() -> Iterator[tuple[str, Machine[Enum, Enum]]]:
    """Each machine with its file, by file name."""
    for module in sorted(pkgutil.walk_packages(vccid.__path__, "vccid."), key=lambda m: m.name):
        path = Path("vccid", *module.name.split(".")[1:]).with_suffix(".py")
        if (ROOT / path).is_file() and "= Machine(" in (ROOT / path).read_text():
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, Machine):
                    yield str(path), value


def drawn(machine: Machine[Enum, Enum]) -> Iterator[str]:
    """The drawing, in Mermaid's words: an arrow for each pair of states."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {machine.initial.name}"
    for state, moves in machine.transitions.items():
        for target in machine.transitions:
            events = [event.name for event, after in moves.items() if after is target]
            if events:
                yield f"    {state.name} --> {target.name}: {', '.join(events)}"
    yield "```"


def tabulated(machine: Machine[Enum, Enum]) -> Iterator[str]:
    """The table: a row for each event, a column for each state it happens in."""
    states = list(machine.transitions)
    yield "| event | " + " | ".join(state.name for state in states) + " |"
    yield "| --- |" + " --- |" * len(states)
    events = list(type(next(iter(machine.transitions[machine.initial]))))
    for event in events:
        cells = (
            machine.transitions[state][event].name if event in machine.transitions[state] else "–"
            for state in states
        )
        yield f"| {event.name} | " + " | ".join(cells) + " |"


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for path, machine in machines():
        lines += [f"## {machine.name[0].upper()}{machine.name[1:]}", ""]
        lines += [f"`{path}`; {machine.source}.", ""]
        lines += [*drawn(machine), "", *tabulated(machine), ""]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    if arguments != ["--check"]:
        PAGE.write_text(page())
        return 0
    if PAGE.read_text() == page():
        return 0
    print(f"{PAGE.relative_to(ROOT)} is not as the code has it: ./dev format", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
