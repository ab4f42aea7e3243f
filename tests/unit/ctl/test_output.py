# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables, to a pipe and at terminals of several widths."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import pytest

from vccid.ctl.output import print_table

COLUMNS = ("reader", "card")
ROWS = [("vccid0", "b84925f7f8c0aa419fdc0a3e96ba"), ("two", "")]
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


class Terminal(io.StringIO):
    """Takes colours, as a terminal does."""

    def isatty(self) -> bool:
        return True


def at_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, columns: Sequence[str], rows: list[tuple[str, ...]]
) -> str:
    """What a terminal of so many columns gets."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_table(columns, rows)
    return terminal.getvalue()


def plain(text: str) -> list[str]:
    """Its lines, without colours and what a line ends in."""
    return [line.rstrip() for line in text.replace(BOLD, "").replace(PLAIN, "").splitlines()]


def test_a_pipe_gets_columns_and_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out == (
        "reader  card\n"
        "vccid0  b84925f7f8c0aa419fdc0a3e96ba\n"
        "two\n"
    )  # fmt: skip


def test_a_terminal_that_is_just_wide_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert at_terminal(36, monkeypatch, COLUMNS, ROWS) == (
        f"{BOLD}reader  card{PLAIN}\n"
        "vccid0  b84925f7f8c0aa419fdc0a3e96ba\n"
        "two\n"
    )  # fmt: skip


def test_a_narrow_terminal_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain(at_terminal(35, monkeypatch, COLUMNS, ROWS)) == [
        "reader  card",
        "vccid0  b84925f7f8c0aa419fdc0a3e96b",
        "        a",
        "two",
    ]


def test_wide_characters_line_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("\u6f22\u5b57", "3"), ("[red]:cat:", "2")]
    assert plain(at_terminal(80, monkeypatch, ("label", "tries"), rows)) == [
        "label       tries",
        "\u6f22\u5b57        3",
        "[red]:cat:  2",
    ]


def test_what_moves_a_cursor_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("label",), [("a\x1b[2Jb\n",)])
    assert capsys.readouterr().out == "label\na?[2Jb?\n"
