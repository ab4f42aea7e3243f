# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a call wants a card to be made from, out of its parameters; what does not go together."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from vccid.control.call_parameters import BadParameter, Taker, Unfit
from vccid.errors import NotPermitted
from vccid.readers.readers_json import CardSource, MadeCard, RealCard
from vccid.settings.config import CARD_KINDS, CardKind, Certificates, Settings
from vccid.settings.looks import (
    ATRS,
    ISSUED,
    MOST_NUMBER,
    PROFILES,
    SM_KINDS,
    TOUCHES,
    check_atr,
)

#: By parameter, what was asked of a card; None where it was left open.
_Choices = dict[str, Any]

#: Name space of the UUIDs of YubiKeys' doubles (RFC 4122, 4.3).
_DOUBLES: Final = uuid.UUID("6a0f1a5e-5d0b-4c53-9f55-3f5d2f9b1c77")

#: What only a card takes that is made of certificates, or blank.
_OF_MADE: Final = (
    "database",
    "atr",
    "in_memory",
    "serial",
    "profile",
    "touch",
    "secure_messaging",
    "contactless",
    "printed_information",
    "facial_image",
)

#: What parameters go with that have nothing to go with.
_NO_SOURCE: Final = "say what the card is made from: --certs, --blank, --reader or --hardware"
_OF_PIV: Final = "a PIV card takes it: --card piv"
_AS_IT_IS: Final = "the real card is as it is"


def card_source(given: Taker, settings: Settings) -> CardSource | None:
    """What a card is to be made from, or None where the call says nothing of it.

    Raises:
        BadParameter: a parameter is unfit, or does not go with the rest.
        NotPermitted: a variable may not be set.
    """
    choices = _choices(given)
    environment = _environment(given, settings)
    real = _real_card(given, environment)
    if real is None and choices["card"] in ISSUED:
        choices["card"], own = ISSUED[choices["card"]]
        choices["atr"] = choices["atr"] or own
    _check(choices, real)
    if real is not None:
        _none_of(_AS_IT_IS, choices, *_OF_MADE)
        return _emulated(real, choices["card"], settings)
    if choices["certificates"] is None and not choices["blank"]:
        _none_of(_NO_SOURCE, choices, *_OF_MADE, "card")
        _none_of(_NO_SOURCE, {"environment": environment or None}, "environment")
        return None
    return _made(choices, environment, settings.certificates)


def _choices(given: Taker) -> _Choices:
    profile = _word(given, "profile", PROFILES)
    return {
        "certificates": given.texts("certificates"),
        "database": given.text("database"),
        "atr": given.text("atr"),
        "card": given.text("card"),
        "blank": given.flag("blank") or None,
        "in_memory": given.flag("in_memory") or None,
        "serial": given.text("serial"),
        "profile": None if profile is None else PROFILES[profile],
        "touch": _word(given, "touch", TOUCHES),
        "secure_messaging": _word(given, "secure_messaging", SM_KINDS),
        "contactless": given.flag("contactless") or None,
        "printed_information": given.flag("printed_information") or None,
        "facial_image": given.text("facial_image"),
    }


def _check(choices: _Choices, real: RealCard | None) -> None:
    kind, atr = choices["card"], choices["atr"]
    if kind is not None and kind not in CARD_KINDS:
        raise BadParameter("card")
    if choices["blank"] and (choices["certificates"] is not None or real is not None):
        raise BadParameter("blank")
    if atr is not None and (wrong := check_atr(atr)):
        raise Unfit("atr", "no answer to reset for a card here", f"it must be {wrong}")
    if real is not None and choices["certificates"] is not None:
        raise BadParameter("certificates")


def _made(choices: _Choices, environment: tuple[str, ...], defaults: Certificates) -> MadeCard:
    card: CardKind = choices["card"] or defaults.card
    profile, atr, serial = choices["profile"] or "", choices["atr"], choices["serial"]
    if card != "piv":
        _none_of(_OF_PIV, choices, "blank", "profile", "secure_messaging", "contactless")
    if profile:
        _none_of("a card by SP 800-73 takes it: no --profile", choices, "secure_messaging")
    if card == "cac":
        _none_of(_OF_PIV, choices, "in_memory", "touch", "printed_information", "facial_image")
    elif atr in ATRS:
        raise Unfit("atr", f"{atr} is of a CAC", "--card cac; bytes in HEX go with any card")
    if not (choices["blank"] or profile):
        _none_of("a blank card has a number of its own: --blank", choices, "serial")
    number = _number(serial) if profile else 0
    return MadeCard(
        choices["certificates"] or (),
        choices["database"] or defaults.database,
        atr or defaults.atr,
        card,
        _uuid(serial, profile, number) if choices["blank"] else "",
        bool(choices["in_memory"]),
        environment,
        profile,
        number,
        choices["touch"] or "",
        choices["secure_messaging"] or "",
        bool(choices["contactless"]),
        bool(choices["printed_information"]),
        choices["facial_image"] or "",
    )


def _emulated(real: RealCard, kind: CardKind | None, settings: Settings) -> RealCard:
    """Of the kind that is asked for, or new cards are of; one passed through is what it is."""
    if real.emulated:
        return replace(real, card=kind or settings.certificates.card)
    _none_of(_AS_IT_IS, {"card": kind}, "card")
    return real


def _environment(given: Taker, settings: Settings) -> tuple[str, ...]:
    """NAME=VALUE each, of variables that may be set."""
    environment = given.texts("environment") or ()
    known = settings.pkcs11.variables
    for text in environment:
        name, equals, _ = text.partition("=")
        if not equals:
            raise BadParameter("environment")
        if name not in known:
            raise NotPermitted(
                f"variable {name} may not be set for a PKCS#11 module",
                f"pkcs11.variables in vccid.toml lists {', '.join(known) or 'none'}",
            )
    return environment


def _real_card(given: Taker, environment: tuple[str, ...]) -> RealCard | None:
    relayed, emulated = given.text("pcsc_reader"), given.text("hardware")
    if relayed is not None and emulated is not None:
        raise BadParameter("hardware")
    if emulated is not None:
        return RealCard(emulated, True, environment)
    if relayed is None:
        return None
    if relayed == "":
        raise Unfit("pcsc_reader", "no name", "opensc-tool -l names those there are")
    _none_of(
        "a module makes a card: --hardware", {"environment": environment or None}, "environment"
    )
    return RealCard(relayed, emulated=False)


def _none_of(why: str, choices: Mapping[str, object], *names: str) -> None:
    """Parameters that say nothing here, and what they go with."""
    for name in names:
        if choices[name] is not None:
            raise Unfit(name, "does not go with the rest", why)


def _word(given: Taker, name: str, known: Collection[str]) -> str | None:
    text = given.text(name)
    if text is not None and text not in known:
        raise Unfit(name, f"{text!r} is none", f"there are: {', '.join(known)}")
    return text


def _number(text: str | None) -> int:
    """The serial number of a YubiKey's double, 0 for one of its own."""
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:12]) <= MOST_NUMBER:
        raise Unfit("serial", "no serial number", f"a YubiKey's is 1 to {MOST_NUMBER}")
    return int(text)


def _uuid(text: str | None, profile: str, number: int) -> str:
    """A blank card's number: the caller's, that of a double with a serial number, or a new one."""
    if number:
        return uuid.uuid5(_DOUBLES, f"{profile} {number}").hex
    try:
        return (uuid.uuid4() if text is None else uuid.UUID(text)).hex
    except ValueError:
        raise Unfit("serial", "no UUID", "a card's is 32 hexadecimal digits") from None
