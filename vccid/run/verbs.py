# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line of `vccid`, whole: the daemon, `vccid run`, and `vccid stop`."""

from __future__ import annotations

import click

from vccid.daemon.main import VERBS, cli, main

__all__ = ["cli", "main"]


def _run() -> click.Command:
    from vccid.run.command import run

    return run


def _stop() -> click.Command:
    from vccid.run.command import stop

    return stop


VERBS["run"] = _run
VERBS["stop"] = _stop
