# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs that show and change readers: status, reader, monitor, version."""

from __future__ import annotations

import contextlib
import os

import click

from vccid import __version__
from vccid.ctl import output
from vccid.ctl.context import (
    Context,
    F,
    complete_reader,
    json_option,
    pass_context,
    reader_argument,
)
from vccid.errors import VccidError
from vccid.wire.varlink import Parameters


@click.command()
@json_option
@pass_context
def status(context: Context) -> None:
    """Show the daemon, its readers, their cards and who looks at them."""
    with context.connect() as client:
        reply = client.call("Status")
    if context.json:
        output.print_json(reply)
        return
    output.print_fields(
        [
            ("vccid", f"{reply['version']}, pid {reply['pid']}, up {_duration(reply['uptime'])}"),
            ("socket", reply["socket"]),
        ]
    )
    click.echo()
    _print_readers(reply["readers"])
    for listener in ("far_cards", "vpcd"):
        if far := reply.get(listener):
            peers = ", ".join(far["peers"]) or "nobody is connected"
            click.echo(f"listening for far cards at {far['address']}: {peers}")
    output.print_warnings(reply["problems"])


@click.group()
def reader() -> None:
    """List, add and remove readers."""


@reader.command("list")
@json_option
@pass_context
def reader_list(context: Context) -> None:
    """List the readers."""
    with context.connect() as client:
        reply = client.call("ListReaders")
    if context.json:
        output.print_json(reply)
    else:
        _print_readers(reply["readers"])


@reader.command("add")
@click.argument("name")
@json_option
@pass_context
def reader_add(context: Context, name: str) -> None:
    """Add a reader that stays until it is removed, over restarts too."""
    with context.connect() as client:
        reply = client.call("AddReader", {"name": name})
    if context.json:
        output.print_json(reply)
    else:
        click.echo(f"reader {name} is there")


@reader.command("remove")
@reader_argument(required=True)
@json_option
@pass_context
def reader_remove(context: Context, reader: str) -> None:
    """Remove a reader added at run time, with the card in it."""
    with context.connect() as client:
        reply = client.call("RemoveReader", {"name": reader})
    if context.json:
        output.print_json(reply)
    else:
        output.print_warnings(reply["warnings"])
        click.echo(f"reader {reader} is gone")


#: What a reader can be attached to.
KINDS = ("vhci", "usbip", "vsc", "vpicc", "usbredir", "pty", "tty", "cuse", "pcsc")
#: Kinds whose argument is a place; the others' is the reader.
_WITH_ADDRESS = ("vsc", "vpicc", "usbredir", "pty", "tty", "pcsc")


def _attachment_options(command: F) -> F:
    """What attach and detach take."""
    for option in (
        click.option(
            "--reader", help="The reader, where there are several.", shell_complete=complete_reader
        ),
        click.option("--listen", is_flag=True, help="usbredir: wait there for QEMU to dial."),
        click.argument("address", metavar="[ADDRESS|READER]", required=False),
        click.argument(
            "kind",
            type=click.Choice(KINDS),
        ),
    ):
        command = option(command)
    return command


@click.command()
@_attachment_options
@json_option
@pass_context
def attach(
    context: Context, kind: str, address: str | None, listen: bool, reader: str | None
) -> None:
    """Show a reader to one more kind of host, over restarts too.

    \b
    vhci               this host's kernel, as a USB device
    usbip              other hosts, which import it from the USB/IP server
    vsc ADDRESS        a QEMU guest: its ccid-card-passthru is at this path or HOST:PORT
    usbredir ADDRESS   a QEMU guest: its usb-redir is at this path or HOST:PORT
    vpicc ADDRESS      a pcscd or Windows with vsmartcard's vpcd at HOST:PORT, usually 35963
    pty [PATH]         a serial reader at a pseudo-terminal, which PATH leads to
    tty [DEVICE]       the same at a terminal of the kernel's, such as /dev/ttyVCCID0
    cuse               this host's programs, as the device node /dev/vccid/READER
    pcsc [SOCKET]      programs of PC/SC without pcscd: PCSCLITE_CSOCK_NAME=SOCKET
    """
    reply = _call_for(context, "Attach", kind, address, listen, reader)
    if context.json:
        output.print_json(reply)
    else:
        output.print_warnings(reply["warnings"])
        click.echo(f"{reply['reader']}: attached to {kind}: {reply['status']}")


@click.command()
@_attachment_options
@json_option
@pass_context
def detach(
    context: Context, kind: str, address: str | None, listen: bool, reader: str | None
) -> None:
    """Show a reader there no longer; all else as it was attached."""
    reply = _call_for(context, "Detach", kind, address, listen, reader)
    if context.json:
        output.print_json(reply)
    else:
        output.print_warnings(reply["warnings"])
        click.echo(f"{reply['reader']}: detached from {kind}")


def _call_for(
    context: Context,
    method: str,
    kind: str,
    address: str | None,
    listen: bool,
    reader: str | None,
) -> Parameters:
    if kind not in _WITH_ADDRESS and reader is None and not {"/", ":"} & set(address or ""):
        address, reader = None, address
    if (
        address is not None
        and ("/" in address or kind == "pty")
        and not address.startswith("unix:")
    ):
        address = os.path.abspath(address)
    parameters = {"kind": kind, "address": address, "listen": listen or None, "reader": reader}
    with context.connect() as client:
        return client.call(method, {k: v for k, v in parameters.items() if v is not None})


@click.command()
@json_option
@pass_context
def monitor(context: Context) -> None:
    """Show what happens as it happens, until interrupted."""
    with contextlib.suppress(KeyboardInterrupt), context.connect() as client:
        for reply in client.stream("Monitor"):
            if context.json:
                output.print_json(reply)
            elif (event := reply.get("event")) is not None:
                click.echo(f"{event['reader']}: {event['kind']} {event['detail']}".rstrip())
            else:
                _print_readers(reply["readers"])


@click.command()
@json_option
@pass_context
def version(context: Context) -> None:
    """Show the versions of vccidctl and of the daemon, if it runs."""
    versions: Parameters = {"vccidctl": __version__, "vccid": None}
    with contextlib.suppress(VccidError), context.connect() as client:
        versions["vccid"] = client.call("Status")["version"]
    if context.json:
        output.print_json(versions)
    else:
        click.echo(f"vccidctl {versions['vccidctl']}")
        click.echo(f"vccid {versions['vccid'] or 'does not run'}")


def _print_readers(readers: list[Parameters]) -> None:
    columns = ("reader", "card", "label", "PIN tries", "attached to")
    output.print_table(columns, [_row(reader) for reader in readers])
    for reader in readers:
        for host in reader["hosts"]:
            looked = f"{host['commands']} APDUs" if host["seen"] else "not looked yet"
            click.echo(f"host of {reader['name']}: {host['kind']} {host['peer']}, {looked}")
        if reader.get("problem"):
            output.print_warnings([f"{reader['name']}: {reader['problem']}"])
        if real := reader.get("real_card"):
            how = "has a card made from" if real["emulated"] else "passes through"
            click.echo(f"{reader['name']} {how} the card in {real['reader']}: {real['status']}")
        if far := reader.get("far_card"):
            click.echo(
                f"{reader['name']} is {far['name'] or 'a reader'} of {far['peer']}: "
                f"{far['commands']} commands"
            )
        for frontend in reader["frontends"]:
            if not frontend["up"]:
                place = f"{_way(frontend)} {frontend['address']}".rstrip()
                output.print_warnings(
                    [f"{reader['name']} is not attached to {place}: {frontend['status']}"]
                )


def _row(reader: Parameters) -> tuple[str, ...]:
    places = ", ".join(
        f"{_way(frontend)} ({frontend['status']})" if frontend["kind"] != "ifd" else "ifd"
        for frontend in reader["frontends"]
        if frontend["up"]
    )
    card = reader.get("card")
    if card is None:
        return reader["name"], "empty", "", "", places
    tries = output.tries_text(card)
    return reader["name"], card["serial"] or card["kind"], card["label"], tries, places


def _way(frontend: Parameters) -> str:
    """As attach and detach take it, before the address."""
    kind: str = frontend["kind"]
    return f"{kind} --listen" if frontend.get("listen") else kind


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
