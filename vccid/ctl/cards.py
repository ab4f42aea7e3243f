# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs that act on cards: insert, remove, card info, pin reset, pin enter."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from vccid.ctl import output, secrets
from vccid.ctl.client import Client, DaemonError
from vccid.ctl.context import (
    Context,
    Exit,
    F,
    WaitCommand,
    json_option,
    pass_context,
    reader_argument,
    wait_option,
)
from vccid.ctl.items import absolute_database, absolute_item, absolute_variable, split_items
from vccid.errors import ConfigError
from vccid.wire.varlink import Parameters

#: What the key pad's prompts are called.
_PROMPTS: Final = {"current": "PIN", "new": "new PIN", "confirm": "new PIN again"}

#: Answers to reset that have a name.
_ATRS: Final = ("cac", "t1")

_secret_file = click.Path(path_type=Path, allow_dash=True, dir_okay=False)
pin_file_option = click.option(
    "--pin-file",
    type=_secret_file,
    help="File whose first line becomes the card's own PIN, 4 to 8 characters.",
)
ask_pin_option = click.option("--ask-pin", is_flag=True, help="Ask for the card's own PIN.")


def card_options(command: F) -> F:
    """What a card is made from; `card_request` takes the values by these names."""
    for option in reversed(_CARD_OPTIONS):
        command = option(command)
    return command


def _complete_file(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _complete_folder(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


def _complete_word(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


#: Kinds that are a PIV card and nothing else.
PIV_ALONE: Final = ("piv", "piv-only-2025")

_CARD_OPTIONS: Final = (
    click.option(
        "--card",
        "kind",
        type=click.Choice(["cac", "cac+piv", *PIV_ALONE]),
        help="Kind of card: a CAC; a PIV card, which takes EC keys and can be written to; both; or"
        " a PIV card as it is issued since 2025.",
    ),
    click.option(
        "--certs",
        metavar="A,B,C",
        shell_complete=_complete_file,
        help="Certificates: NSS nicknames, pkcs11: URIs, PEM or PKCS#12 files. One to ten make a "
        "CAC, the first three being ID, signature and encryption; up to 24 a PIV card, in 9A, 9C, "
        "9D, 9E, and 82 to 95.",
    ),
    click.option(
        "--blank", is_flag=True, help="An empty PIV card, for who personalises it: a new one."
    ),
    click.option(
        "--in-memory", is_flag=True, help="Forget what is written to a PIV card once it is out."
    ),
    click.option(
        "--reader",
        "real_reader",
        metavar="NAME",
        help="Pass through the real card in this PC/SC reader; a part of its name will do.",
    ),
    click.option(
        "--hardware",
        metavar="[NAME]",
        is_flag=False,
        flag_value="",
        help="Make the card from the real card in this PC/SC reader, or with this token label or "
        "pkcs11: URI; left out, the only one there is.",
    ),
    click.option(
        "--db",
        metavar="DATABASE",
        shell_complete=_complete_folder,
        help="NSS database of the nicknames.",
    ),
    click.option(
        "--set",
        "environment",
        metavar="NAME=VALUE",
        multiple=True,
        help="Environment of the process that has the card's PKCS#11 module: SOFTHSM2_CONF=FILE, "
        "and what the setting pkcs11.variables lists. May be repeated.",
    ),
    click.option(
        "--atr",
        metavar="[cac|t1|HEX]",
        shell_complete=lambda ctx, parameter, incomplete: _complete_word(_ATRS, incomplete),
        help="Answer to reset: of a CAC, T=0 as QEMU's card or T=1; or of any card, its bytes.",
    ),
    click.option(
        "--profile",
        type=click.Choice(["yubikey-5", "yubikey-5.4", "yubikey-5.7"]),
        help="Make a PIV card a test double of a YubiKey, with a reader that is called as one.",
    ),
    click.option(
        "--secure-messaging",
        type=click.Choice(["cs2", "cs7", "cs2-intermediate", "cs7-intermediate"]),
        help="Let a PIV card speak secure messaging by this cipher suite, its certificate signed"
        " by way of an intermediate one or not.",
    ),
    click.option(
        "--contactless",
        is_flag=True,
        help="Have hosts come to a PIV card by its contactless interface.",
    ),
    click.option(
        "--serial",
        metavar="NUMBER",
        help="Number of a blank card, a UUID: the card with this number, as it was left; of a"
        " YubiKey's double, decimal.",
    ),
    click.option(
        "--touch",
        type=click.Choice(["always", "never", "ask"]),
        help="Who touches a PIV card whose keys want it: somebody at once, nobody, or vccidctl"
        " touch.",
    ),
    click.option(
        "--printed-information",
        is_flag=True,
        help="Let a new PIV card have the object with what would be printed on it.",
    ),
    click.option(
        "--facial-image",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Let a new PIV card have this picture of its holder, JPEG or JPEG 2000.",
    ),
    click.option(
        "--reader-name",
        metavar="NAME",
        help="What programs see the reader by from now on; blanks are allowed. Empty: its usual"
        " name.",
    ),
    click.option(
        "--password-file",
        type=_secret_file,
        help="File whose first line is the database's, token's or file's password.",
    ),
    click.option("--ask-password", is_flag=True, help="Ask for that password."),
    pin_file_option,
    ask_pin_option,
)


def card_request(
    *,
    kind: str | None,
    certs: str | None,
    blank: bool,
    in_memory: bool,
    real_reader: str | None,
    hardware: str | None,
    db: str | None,
    environment: tuple[str, ...],
    atr: str | None,
    serial: str | None,
    profile: str | None,
    touch: str | None,
    secure_messaging: str | None,
    contactless: bool,
    printed_information: bool,
    facial_image: Path | None,
    reader_name: str | None,
    password_file: Path | None,
    ask_password: bool,
    pin_file: Path | None,
    ask_pin: bool,
) -> Parameters:
    """The values of `card_options` as parameters of Insert; asks for what is to be asked for.

    Raises:
        click.UsageError: they do not go together.
        ConfigError: a secret cannot be had.
    """
    if (secure_messaging or contactless) and (kind != "piv" and not blank):
        raise click.UsageError("--secure-messaging and --contactless go with --card piv")
    if profile is not None and secure_messaging is not None:
        raise click.UsageError("a YubiKey has no --secure-messaging")
    if profile is not None and (kind not in (None, "piv") or real_reader is not None):
        raise click.UsageError("--profile goes with --card piv")
    if sum(source is not None for source in (certs, real_reader, hardware, blank or None)) > 1:
        raise click.UsageError(
            "a card comes from --certs, --blank, --reader or --hardware, not from two"
        )
    if (real_reader, hardware) != (None, None) and (db, atr) != (None, None):
        raise click.UsageError("--db and --atr go with --certs")
    if real_reader is not None and kind is not None:
        raise click.UsageError("--card goes with --certs and --hardware")
    if hardware is not None and kind == "piv-only-2025":
        raise click.UsageError("--card piv-only-2025 goes with --certs and --blank")
    if environment and certs is None and hardware is None:
        raise click.UsageError("--set goes with --certs and --hardware")
    if wrong := next((text for text in environment if "=" not in text[1:]), None):
        raise click.UsageError(f"--set takes NAME=VALUE, not {wrong!r}")
    if kind not in (None, "cac") and atr in _ATRS:
        raise click.UsageError(f"--atr {atr} goes with --card cac; HEX goes with any")
    blank = blank or (profile is not None and (certs, real_reader, hardware) == (None,) * 3)
    more = printed_information or facial_image is not None
    if more and (kind == "cac" or (kind, certs, blank) == (None, None, False)):
        raise click.UsageError(
            "--printed-information and --facial-image go with --card piv of --certs, or --blank"
        )
    if serial is not None and not blank and profile is None:
        raise click.UsageError("--serial goes with --blank")
    if (kind == "cac" and in_memory) or (kind not in (None, *PIV_ALONE) and blank):
        raise click.UsageError("--blank and --in-memory go with --card piv")
    return {
        "card": kind or ("piv" if blank or profile else None),
        "blank": blank or None,
        "in_memory": in_memory or None,
        "certificates": None if certs is None else [absolute_item(i) for i in split_items(certs)],
        "database": None if db is None else absolute_database(db),
        "environment": [absolute_variable(text) for text in environment] or None,
        "atr": atr,
        "serial": serial,
        "profile": profile,
        "touch": touch,
        "secure_messaging": secure_messaging,
        "contactless": contactless or None,
        "printed_information": printed_information or None,
        "facial_image": None if facial_image is None else str(facial_image.absolute()),
        "reader_name": reader_name,
        "pcsc_reader": real_reader,
        "hardware": hardware,
        "password": secrets.encoded(_secret(password_file, ask_password, "password")),
        "pin": secrets.encoded(_secret(pin_file, ask_pin, "card PIN", confirm=True)),
    }


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
    new = secrets.encoded(_secret(pin_file, ask_pin, what, confirm=True))
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
    type=_secret_file,
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
    typed = [_secret_in(path) for path in pin_files]
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


def _secret(path: Path | None, ask: bool, what: str, confirm: bool = False) -> bytes | None:
    if path is not None and ask:
        raise click.UsageError(f"the {what} comes from a file or is asked for, not both")
    if path is not None:
        return _secret_in(path)
    return secrets.ask(what, confirm) if ask else None


def _secret_in(path: Path) -> bytes:
    context = click.get_current_context().find_object(Context)
    silent = context is not None and context.json
    if not silent and (warning := secrets.exposure(path)):
        output.print_warnings([warning])
    return secrets.from_file(path)


def _end_of_wait(context: Context, reply: Parameters) -> None:
    """With --wait, a host that has not noticed is a failure of its own kind."""
    if reply["seen"]:
        return
    if not context.json:
        click.echo(f"not seen yet by: {', '.join(reply['unseen'])}", err=True)
    raise SystemExit(Exit.NOT_SEEN)
