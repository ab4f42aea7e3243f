# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs that act on PINs: pin reset, pin enter."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from vccid.ctl import output, secrets
from vccid.ctl.client import Client
from vccid.ctl.context import (
    Context,
    WaitCommand,
    json_option,
    pass_context,
    reader_argument,
    wait_option,
)
from vccid.ctl.secret_options import (
    SECRET_FILE,
    ask_pin_option,
    pin_file_option,
    secret,
    secret_in,
)
from vccid.wire.varlink import Parameters

#: What the key pad's prompts are called.
_PROMPTS: Final = {"current": "PIN", "new": "new PIN", "confirm": "new PIN again"}


@click.group()
def pin() -> None:
    """Look after the card's PIN."""


@pin.command("reset")
@reader_argument()
@pin_file_option
@ask_pin_option
@click.option("--puk", is_flag=True, help="Do so with a PIV card's PUK, not with its PIN.")
@json_option
@pass_context
def pin_reset(
    context: Context, reader: str | None, pin_file: Path | None, ask_pin: bool, puk: bool
) -> None:
    """Give the card all its PIN tries back, and a new PIN where one is given."""
    what = "new card PUK" if puk else "new card PIN"
    new = secrets.encoded(secret(pin_file, ask_pin, what, confirm=True))
    parameters = {"reader": reader, "pin": new, "puk": puk or None}
    with context.connect() as client:
        reply = client.call("ResetPin", {k: v for k, v in parameters.items() if v is not None})
    if context.json:
        output.print_json(reply)
        return
    output.print_warnings(reply["warnings"])
    if puk:
        click.echo(f"{reply['reader']}: PUK tries: {output.puk_tries_text(reply['card'])}")
    else:
        click.echo(f"{reply['reader']}: PIN tries: {output.tries_text(reply['card'])}")


@pin.command("enter", cls=WaitCommand)
@reader_argument()
@click.option(
    "--pin-file",
    "pin_files",
    type=SECRET_FILE,
    multiple=True,
    help="File whose first line is typed; once for each prompt. Left out: each is asked for.",
)
@click.option("--cancel", "end", flag_value="cancel", help="Press the cancel key.")
@click.option("--time-out", "end", flag_value="timeout", help="Let the host's time run out.")
@wait_option("Wait until a host asks")
@json_option
@pass_context
def pin_enter(
    context: Context,
    reader: str | None,
    pin_files: tuple[Path, ...],
    end: str | None,
    wait: float | None,
) -> None:
    """Type a PIN on READER's PIN pad, for the host that asks for one."""
    if end is not None and pin_files:
        raise click.UsageError("the entry is either typed or ended")
    parameters: Parameters = {"reader": reader, "end": end, "wait": wait}
    typed = [secret_in(path) for path in pin_files]
    with context.connect() as client:
        if end is None and not typed:
            # What is typed is for the host that is shown, not for the one that asks by then.
            entry = _asked(client, reader, wait)
            parameters = {"reader": entry["reader"], "entry": entry["entry"]}
            typed = [secrets.ask(_PROMPTS[prompt]) for prompt in entry["prompts"]]
        parameters["pins"] = [secrets.encoded(pin) for pin in typed] or None
        reply = client.call("EnterPin", {k: v for k, v in parameters.items() if v is not None})
    if context.json:
        output.print_json(reply)
    else:
        click.echo(f"{reply['reader']}: {'typed' if end is None else end} for {reply['host']}")


def _asked(client: Client, reader: str | None, wait: float | None) -> Parameters:
    """What a host asks for, once it is known that somebody can type it."""
    parameters = {"reader": reader, "wait": wait}
    secrets.need_terminal("the PIN")
    entry = client.call("AskedPin", {k: v for k, v in parameters.items() if v is not None})
    click.echo(f"{entry['reader']}: {entry['host']} asks", err=True)
    return entry
