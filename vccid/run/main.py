# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command `vccid`, whole: the daemon, and `vccid run`."""

from __future__ import annotations

import click

from vccid.daemon.main import VERBS, cli, main

__all__ = ["cli", "main"]


def _run() -> click.Command:
    from vccid.run.command import run

    return run


VERBS["run"] = _run
