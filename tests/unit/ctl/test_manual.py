# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccidctl(1) and the command line say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from vccid.ctl.context import Exit
from vccid.ctl.main import cli

MANUAL = (Path(__file__).parents[3] / "docs" / "man" / "vccidctl.1").read_text()
PLAIN = re.sub(r"\\f.", "", MANUAL).replace("\\-", "-")


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield path


def options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield from (name for name in parameter.opts if name.startswith("--"))
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from options(child)


def test_every_verb_has_its_section() -> None:
    sections = re.findall(r"^\.SS (.*)$", PLAIN, re.MULTILINE)
    for path in leaves(cli):
        name = " ".join(path)
        assert any(line.split(" [")[0].startswith(name) for line in sections), name
    assert len(sections) == len(list(leaves(cli)))


def test_every_option_is_in_the_manual_and_the_other_way_round() -> None:
    written = set(re.findall(r"--[a-z-]+", PLAIN))
    assert written == {*options(cli), "--help"}


def test_every_exit_status_is_in_the_manual() -> None:
    section = PLAIN.partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    assert re.findall(r"^\.B (\d)$", section, re.MULTILINE) == [str(int(code)) for code in Exit]
