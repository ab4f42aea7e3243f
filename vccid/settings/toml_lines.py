# SPDX-License-Identifier: LGPL-2.1-or-later
"""On which line of a TOML file a key stands; tomllib reads the values and tells no lines.

Source: TOML 1.0.0, "Keys", "Table", "Array of Tables", "String". The text is known to be
valid TOML, so only what could be taken for a key has to be told apart.
"""

from __future__ import annotations

import re

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_DOTTED})[ \t]*\]")
_ASSIGNMENT = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|#[^\n]*",
    re.DOTALL,
)

Path = tuple[str, ...]


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, on which each table and key is first named."""
    lines: dict[Path, int] = {}
    table: Path = ()
    continued = _continuation_lines(text)
    for number, line in enumerate(text.split("\n"), start=1):
        if number in continued:
            continue
        if header := _HEADER.match(line):
            table = _split(header[1])
            _note(lines, table, number)
        elif assignment := _ASSIGNMENT.match(line):
            _note(lines, table + _split(assignment[1]), number)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a key, or of the nearest table around it that has one; 1 at worst."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _note(lines: dict[Path, int], path: Path, number: int) -> None:
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], number)


def _split(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def _continuation_lines(text: str) -> set[int]:
    """Lines that begin inside a multi-line string."""
    inside: set[int] = set()
    for token in _TOKEN.finditer(text):
        if token[0].startswith(('"""', "'''")):
            first = text.count("\n", 0, token.start()) + 1
            inside.update(range(first + 1, first + 1 + token[0].count("\n")))
    return inside
