# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was chosen for a card, checked and as parameters of Insert."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import click

from vccid.ctl import secrets
from vccid.ctl.card_options import NAMED_ATRS, PIV_ALONE
from vccid.ctl.items import absolute_database, absolute_item, absolute_variable, split_items
from vccid.ctl.secret_options import secret
from vccid.wire.varlink import Parameters


def _is_blank(of: Any) -> bool:
    """A YubiKey's double that is made of nothing is a blank card too."""
    made_of_nothing = (of.certs, of.real_reader, of.hardware) == (None,) * 3
    return of.blank or (of.profile is not None and made_of_nothing)


def _is_hex(text: str) -> bool:
    try:
        return bool(bytes.fromhex(text))
    except ValueError:
        return False


def _sources(of: Any) -> int:
    named = (of.certs, of.real_reader, of.hardware, of.blank or None)
    return sum(source is not None for source in named)


#: What does not go together, and what is said of it; the first that holds is told.
_WRONG: Final[tuple[tuple[Callable[[Any], object], str], ...]] = (
    (
        lambda of: (of.secure_messaging or of.contactless) and of.kind != "piv" and not of.blank,
        "--secure-messaging and --contactless go with --card piv",
    ),
    (
        lambda of: of.profile is not None and of.secure_messaging is not None,
        "a YubiKey has no --secure-messaging",
    ),
    (
        lambda of: (
            of.profile is not None and (of.kind not in (None, "piv") or of.real_reader is not None)
        ),
        "--profile goes with --card piv",
    ),
    (
        lambda of: _sources(of) > 1,
        "a card comes from --certs, --blank, --reader or --hardware, not from two",
    ),
    (
        lambda of: (
            (of.real_reader, of.hardware) != (None, None) and (of.db, of.atr) != (None, None)
        ),
        "--db and --atr go with --certs",
    ),
    (
        lambda of: of.real_reader is not None and of.kind is not None,
        "--card goes with --certs and --hardware",
    ),
    (
        lambda of: of.hardware is not None and of.kind == "piv-only-2025",
        "--card piv-only-2025 goes with --certs and --blank",
    ),
    (
        lambda of: of.environment and of.certs is None and of.hardware is None,
        "--set goes with --certs and --hardware",
    ),
    (
        lambda of: of.atr is not None and of.atr not in NAMED_ATRS and not _is_hex(of.atr),
        "--atr takes cac, t1 or an answer to reset in hexadecimal",
    ),
    (
        lambda of: of.kind not in (None, "cac") and of.atr in NAMED_ATRS,
        "--atr cac and --atr t1 go with --card cac; HEX goes with any",
    ),
    (
        lambda of: (
            (of.printed_information or of.facial_image is not None)
            and (of.kind == "cac" or (of.kind, of.certs, _is_blank(of)) == (None, None, False))
        ),
        "--printed-information and --facial-image go with --card piv of --certs, or --blank",
    ),
    (
        lambda of: of.serial is not None and not _is_blank(of) and of.profile is None,
        "--serial goes with --blank",
    ),
    (
        lambda of: (
            (of.kind == "cac" and of.in_memory)
            or (of.kind not in (None, *PIV_ALONE) and _is_blank(of))
        ),
        "--blank and --in-memory go with --card piv",
    ),
)


def card_request(**chosen: Any) -> Parameters:
    """The values of `card_options` as parameters of Insert; asks for what is to be asked for.

    Raises:
        click.UsageError: they do not go together.
        ConfigError: a secret cannot be had.
    """
    of = SimpleNamespace(**chosen)
    if wrong := next((says for is_wrong, says in _WRONG if is_wrong(of)), None):
        raise click.UsageError(wrong)
    if unset := next((text for text in of.environment if "=" not in text[1:]), None):
        raise click.UsageError(f"--set takes NAME=VALUE, not {unset!r}")
    blank, certs = _is_blank(of), of.certs
    return {
        "card": of.kind or ("piv" if blank or of.profile else None),
        "blank": blank or None,
        "in_memory": of.in_memory or None,
        "certificates": None if certs is None else [absolute_item(i) for i in split_items(certs)],
        "database": None if of.db is None else absolute_database(of.db),
        "environment": [absolute_variable(text) for text in of.environment] or None,
        "atr": of.atr,
        "serial": of.serial,
        "profile": of.profile,
        "touch": of.touch,
        "secure_messaging": of.secure_messaging,
        "contactless": of.contactless or None,
        "printed_information": of.printed_information or None,
        "facial_image": None if of.facial_image is None else str(of.facial_image.absolute()),
        "reader_name": of.reader_name,
        "pcsc_reader": of.real_reader,
        "hardware": of.hardware,
        "password": secrets.encoded(secret(of.password_file, of.ask_password, "password")),
        "pin": secrets.encoded(secret(of.pin_file, of.ask_pin, "card PIN", confirm=True)),
    }
