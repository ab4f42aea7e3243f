# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options that say where a PIN or a password comes from, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from vccid.ctl import output, secrets
from vccid.ctl.context import Context

SECRET_FILE: Final = click.Path(path_type=Path, allow_dash=True, dir_okay=False)
pin_file_option = click.option(
    "--pin-file",
    type=SECRET_FILE,
    help="File whose first line becomes the card's own PIN, 4 to 8 characters.",
)
ask_pin_option = click.option("--ask-pin", is_flag=True, help="Ask for the card's own PIN.")


def secret(path: Path | None, ask: bool, what: str, confirm: bool = False) -> bytes | None:
    """What is in the file, or what is asked for; None for neither.

    Raises:
        click.UsageError: both.
        ConfigError: it cannot be had.
    """
    if path is not None and ask:
        raise click.UsageError(f"the {what} comes from a file or is asked for, not both")
    if path is not None:
        return secret_in(path)
    return secrets.ask(what, confirm) if ask else None


def secret_in(path: Path) -> bytes:
    """What is in the file; a warning where others may read it."""
    context = click.get_current_context().find_object(Context)
    silent = context is not None and context.json
    if not silent and (warning := secrets.exposure(path)):
        output.print_warnings([warning])
    return secrets.from_file(path)
