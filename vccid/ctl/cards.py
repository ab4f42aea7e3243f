# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs that act on cards: insert, remove, touch, and those of card."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import click

from vccid.ctl import output, secrets
from vccid.ctl.card_options import card_options
from vccid.ctl.card_request import card_request
from vccid.ctl.client import Client, DaemonError
from vccid.ctl.context import (
    Context,
    Exit,
    WaitCommand,
    json_option,
    pass_context,
    reader_argument,
    wait_option,
)
from vccid.errors import ConfigError
from vccid.wire.varlink import Parameters


@click.command(cls=WaitCommand)
@reader_argument()
@card_options
@wait_option("Return when every attached host has seen it")
@json_option
@pass_context
def insert(context: Context, /, reader: str | None, wait: float | None, **card: Any) -> None:
    """Make a card from certificates, or follow a real one, and put it into READER.

    Where nothing is named, the card last inserted there comes back, with what was written to it.
    """
    request = {**card_request(**card), "reader": reader, "wait": wait}
    with context.connect() as client:
        reply = call_insert(client, request)
    if context.json:
        output.print_json(reply)
    else:
        output.print_warnings(reply["warnings"])
        click.echo(f"{reply['reader']}: {_what_is_in(reply['card'])}")
    _end_of_wait(context, reply)


def _what_is_in(card: Parameters | None) -> str:
    if card is None:
        return "no card is in yet; it comes when one is put into the real reader"
    return f"card {card['serial']} ({card['label']}) is in".replace("  ", " ")


def call_insert(client: Client, request: Parameters) -> Parameters:
    """Insert; where a password turns out to be needed and somebody can be asked, ask once."""
    parameters = {name: value for name, value in request.items() if value is not None}
    try:
        return client.call("Insert", parameters)
    except DaemonError as error:
        if error.kind != "PasswordNeeded" or not secrets.can_ask():
            raise
        click.echo(error.message, err=True)
    password = secrets.encoded(secrets.ask("password"))
    return client.call("Insert", {**parameters, "password": password})


@click.command(cls=WaitCommand)
@reader_argument()
@wait_option("Return when every attached host has seen it")
@json_option
@pass_context
def remove(context: Context, reader: str | None, wait: float | None) -> None:
    """Take the card out of READER."""
    parameters = {"reader": reader, "wait": wait}
    with context.connect() as client:
        reply = client.call("Remove", {k: v for k, v in parameters.items() if v is not None})
    if context.json:
        output.print_json(reply)
    else:
        output.print_warnings(reply["warnings"])
        click.echo(f"{reply['reader']}: the card is out")
    _end_of_wait(context, reply)


@click.group()
def card() -> None:
    """Look at the card that is in a reader, and after what is written to it."""


@card.command("info")
@reader_argument()
@json_option
@pass_context
def card_info(context: Context, reader: str | None) -> None:
    """Show the card's ATR, serial number, certificates and PIN tries left."""
    with context.connect() as client:
        reply = client.call("CardInfo", {} if reader is None else {"reader": reader})
    if context.json:
        output.print_json(reply)
        return
    card = reply["card"]
    output.print_fields(
        [
            ("reader", reply["reader"]),
            ("card", card["label"]),
            ("kind", card["kind"]),
            ("serial", card["serial"]),
            ("ATR", base64.b64decode(reply["atr"]).hex(" ").upper()),
            ("PIN", f"{card['pin']}, {output.tries_text(card)}"),
            *([("pairing code", code)] if (code := reply.get("pairing_code")) else []),
            *([] if card["puk_tries"] is None else [("PUK", output.puk_tries_text(card))]),
        ]
    )
    click.echo()
    if reply["slots"]:
        _print_slots(reply)
        return
    output.print_table(
        ("#", "certificate", "subject", "key", "valid until"),
        [
            (str(number), cert["name"], cert["subject"], cert["key"], cert["not_after"])
            for number, cert in enumerate(reply["certificates"], start=1)
        ],
    )


def _print_slots(reply: Parameters) -> None:
    """A PIV card's keys with their certificates."""
    rows = []
    for slot in reply["slots"]:
        index = slot["certificate"]
        cert = None if index is None else reply["certificates"][index]
        rows.append(
            (
                slot["reference"],
                slot["algorithm"] or "no key",
                slot["pin"],
                slot["source"],
                "no certificate" if cert is None else cert["subject"],
                "" if cert is None else cert["not_after"],
            )
        )
    output.print_table(("slot", "key", "PIN", "from", "subject", "valid until"), rows)


@card.command("reset")
@reader_argument()
@json_option
@pass_context
def card_reset(context: Context, reader: str | None) -> None:
    """Let a PIV card be as when it was new: what was written to it, PIN and PUK are gone."""
    with context.connect() as client:
        reply = client.call("ResetCard", {} if reader is None else {"reader": reader})
    if context.json:
        output.print_json(reply)
    else:
        click.echo(f"{reply['reader']}: card {reply['card']['serial']} is as when it was new")


@card.command("export")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@reader_argument()
@json_option
@pass_context
def card_export(context: Context, directory: Path, reader: str | None) -> None:
    """Write a PIV card's objects that are read without the PIN to files in DIRECTORY."""
    with context.connect() as client:
        reply = client.call("CardObjects", {} if reader is None else {"reader": reader})
    files = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for item in reply["objects"]:
            path = directory / f"{Path(item['file']).name}.ber"
            path.write_bytes(base64.b64decode(item["content"]))
            files.append(str(path))
    except OSError as error:
        raise ConfigError(f"{directory} cannot be written: {error.strerror}") from error
    if context.json:
        output.print_json({"reader": reply["reader"], "files": files})
        return
    for file in files:
        click.echo(file)


@click.command(cls=WaitCommand)
@reader_argument()
@wait_option("Wait until a key asks")
@json_option
@pass_context
def touch(context: Context, reader: str | None, wait: float | None) -> None:
    """Touch the PIV card in READER, whose key waits for that."""
    parameters = {"reader": reader, "wait": wait}
    with context.connect() as client:
        reply = client.call("Touch", {k: v for k, v in parameters.items() if v is not None})
    if context.json:
        output.print_json(reply)
    else:
        click.echo(f"{reply['reader']}: touched")


def _end_of_wait(context: Context, reply: Parameters) -> None:
    """With --wait, a host that has not noticed is a failure of its own kind."""
    if reply["seen"]:
        return
    if not context.json:
        click.echo(f"not seen yet by: {', '.join(reply['unseen'])}", err=True)
    raise SystemExit(Exit.NOT_SEEN)
