# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options that say what a card is made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

from vccid.ctl.context import F
from vccid.ctl.secret_options import SECRET_FILE, ask_pin_option, pin_file_option

#: Answers to reset that have a name.
NAMED_ATRS: Final = ("cac", "t1")


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
        shell_complete=lambda ctx, parameter, incomplete: _complete_word(NAMED_ATRS, incomplete),
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
        type=SECRET_FILE,
        help="File whose first line is the database's, token's or file's password.",
    ),
    click.option("--ask-password", is_flag=True, help="Ask for that password."),
    pin_file_option,
    ask_pin_option,
)


def card_options(command: F) -> F:
    """What a card is made from; `card_request.card_request` takes the values by these names."""
    for option in reversed(_CARD_OPTIONS):
        command = option(command)
    return command
