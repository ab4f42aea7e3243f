# SPDX-License-Identifier: LGPL-2.1-or-later
"""What vccidctl prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import click

from vccid.errors import VccidError
from vccid.wire.varlink import Parameters

#: Blanks between two columns.
_GAP: Final = 2


def print_json(value: object) -> None:
    """One line, so that a stream can be read line by line."""
    click.echo(_json(value, sys.stdout.encoding))


def _json(value: object, encoding: str | None) -> str:
    """Text as it is where the stream can carry it, else escaped as JSON has it."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    try:
        text.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(", ", ": "))
    return text


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table, its columns two blanks apart; at a terminal nothing is cut off."""
    rows = [list(map(_printable, row)) for row in rows]
    lines = [list(columns), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if sys.stdout.isatty() and not _fits(lines, widths):
        _rich_table(columns, rows)
        return
    for number, line in enumerate(lines):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        text = (_GAP * " ").join(cells).rstrip()
        click.echo(text if number else click.style(text, bold=True))


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line."""
    for name, value in fields:
        click.echo(f"{name + ':':<14}{_printable(value)}")


def print_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.secho(f"warning: {_printable(warning)}", fg="yellow", err=True)


def print_error(error: VccidError, kind: str, as_json: bool) -> None:
    """What is wrong and what to do, on standard error."""
    if as_json:
        fields = {"error": kind, "message": error.message, "hint": error.hint}
        click.echo(_json(fields, sys.stderr.encoding), err=True)
        return
    click.secho(f"vccidctl: {_printable(error.message)}", fg="red", err=True)
    if error.hint:
        click.echo(f"  {_printable(error.hint)}", err=True)


def tries_text(card: Parameters) -> str:
    """A card's PIN tries, for people."""
    return _tries(card.get("tries"), "PIN")


def puk_tries_text(card: Parameters) -> str:
    """A card's PUK tries, for people."""
    return _tries(card.get("puk_tries"), "PUK")


def _tries(tries: int | None, what: str) -> str:
    if tries is None:
        return "not told"
    return f"{tries} left" if tries else f"none left: the {what} is blocked"


def _fits(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> bool:
    """Whether it fits the terminal, and each character takes one place of it."""
    width = sum(widths) + _GAP * (len(widths) - 1)
    plain = all(cell.isascii() for line in lines for cell in line)
    return plain and width <= shutil.get_terminal_size().columns


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The same with cells in several lines; rich takes as long to load as all else here."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False, emoji=False).print(table)


def _printable(text: str) -> str:
    """A certificate's name must not move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)
