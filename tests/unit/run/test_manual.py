# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccid(8) and the command `vccid` say the same."""

from __future__ import annotations

import re
from pathlib import Path

import click

from vccid.ctl.cards import insert
from vccid.daemon import main as daemon
from vccid.run.command import Exit, run, stop
from vccid.run.verbs import cli

MANUAL = (Path(__file__).parents[3] / "docs" / "man" / "vccid.8").read_text()
PLAIN = re.sub(r"\\f.", "", MANUAL).replace("\\-", "-")


def section(title: str) -> str:
    return PLAIN.partition(f"\n.SH {title}\n")[2].partition("\n.SH ")[0]


def options(command: click.Command) -> set[str]:
    return {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }


def written(text: str) -> set[str]:
    return set(re.findall(r"--[a-z-]+", text))


def test_every_option_is_in_the_manual_and_the_other_way_round() -> None:
    assert written(section("OPTIONS")) == {*options(cli), "--help"}
    assert written(section("RUN")) == options(run)
    assert written(section("STOP")) == options(stop) == set()


def test_run_and_stop_are_all_there_is_beside_the_daemon() -> None:
    assert list(daemon.VERBS) == ["run", "stop"]


def test_run_makes_every_card_that_insert_makes() -> None:
    assert options(insert) - options(run) == {"--wait"}


def test_every_exit_status_is_in_the_manual() -> None:
    codes = [*daemon.Exit, *Exit]
    found = re.findall(r"^\.B (\d+)$", section("EXIT STATUS"), re.MULTILINE)
    assert found == [str(int(code)) for code in codes]
