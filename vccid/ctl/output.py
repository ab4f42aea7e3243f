# SPDX-License-Identifier: LGPL-2.1-or-later
"""What vccidctl prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

import click

from vccid.errors import VccidError
from vccid.wire.varlink import Parameters


def print_json(value: object) -> None:
    """One line, so that a stream can be read line by line."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: with rich at a terminal, else columns two blanks apart."""
    rows = [list(map(_printable, row)) for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, rows)
        return
    lines = [list(columns), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


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
        click.echo(json.dumps(fields, ensure_ascii=False), err=True)
        return
    click.secho(f"vccidctl: {_printable(error.message)}", fg="red", err=True)
    if error.hint:
        click.echo(f"  {_printable(error.hint)}", err=True)


def tries_text(card: Parameters) -> str:
    """A card's PIN tries, for people."""
    tries = card.get("tries")
    if tries is None:
        return "not told"
    return f"{tries} left" if tries else "none left: the PIN is blocked"


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def _printable(text: str) -> str:
    """A certificate's name must not move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)
