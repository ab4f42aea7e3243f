# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real cards of this host: which one is meant, and what follows it into a reader of ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vccid.card.card import Card
from vccid.errors import ReaderError
from vccid.reader import Reader
from vccid.readers.card_maker import CardMaker
from vccid.readers.readers_json import CardSource, MadeCard, RealCard
from vccid.settings.config import Settings

if TYPE_CHECKING:
    from vccid.backends.pcsc import Follower

log = logging.getLogger(__name__)

#: What begins a `--hardware` that names a token by RFC 7512, in no PC/SC reader perhaps.
_TOKEN: Final = "pkcs11:"


async def find(real: RealCard, is_ours: Callable[[str], bool], settings: Settings) -> CardSource:
    """What a user's word for a real card means.

    Args:
        real: its `reader` is a PC/SC reader's name or a part of one; with `emulated` also a
            token's label or pkcs11: URI, or "" for the only card there is.
        is_ours: whether a serial number is that of a reader of ours, which is never meant.

    Returns:
        The card with its reader's complete name, or a token's certificates.

    Raises:
        ReaderError: no reader fits, or several do.
        KeySourceError: the PKCS#11 module or the token cannot be used.
    """
    if real.emulated and real.reader.startswith(_TOKEN):
        from vccid.keys.token_contents import certificates_on_token

        environment = (*settings.pkcs11.environment, *real.environment)
        uris = await asyncio.to_thread(certificates_on_token, real.reader, _most(real), environment)
        return _made_of(uris, real, settings)
    return await asyncio.to_thread(_find_reader, real, is_ours, settings)


def follower(
    reader: Reader,
    real: RealCard,
    is_ours: Callable[[str], bool],
    settings: Settings,
    cards: CardMaker,
) -> Follower:
    """What puts the card into `reader` whenever it is there; not started.

    Raises:
        ReaderError: pyscard is missing.
    """
    _require_pyscard()
    from vccid.backends.pcsc import PcscEmulation, PcscRelay
    from vccid.backends.pcsc_card import RelaySettings

    real_cards = settings.real_cards
    if not real.emulated:
        shared = RelaySettings(real_cards.exclusive, real_cards.idle, real_cards.tries_kept)
        return PcscRelay(reader, real.reader, is_ours, shared)

    async def make() -> Card:
        from vccid.keys.token_contents import certificates_in_reader

        uris = await asyncio.to_thread(
            certificates_in_reader,
            real_cards.module,
            real.reader,
            _most(real),
            (*settings.pkcs11.environment, *real.environment),
        )
        source = _made_of(uris, real, settings)
        card, warnings = await cards.make(source, None, None, real_cards.tries_kept)
        for warning in warnings:
            log.warning("%s", warning, extra={"reader": reader.name})
        return card

    return PcscEmulation(reader, real.reader, is_ours, make)


def _most(real: RealCard) -> int:
    """So many certificates the emulated card can have."""
    if real.card == "cac":
        from vccid.card.cac.cac_card import MAX_CREDENTIALS

        return MAX_CREDENTIALS
    from vccid.card.piv.references import KEYS

    return len(KEYS)


def _made_of(uris: tuple[str, ...], real: RealCard, settings: Settings) -> MadeCard:
    """The emulated card."""
    certificates = settings.certificates
    atr = certificates.atr if real.card == "cac" else "cac"
    return MadeCard(uris, certificates.database, atr, real.card, environment=real.environment)


def _find_reader(real: RealCard, is_ours: Callable[[str], bool], settings: Settings) -> RealCard:
    """The one PC/SC reader that is meant; blocks."""
    _require_pyscard()
    from vccid.backends.pcsc import Readers

    with Readers() as there:
        names = there.names()
        none = "none but vccid's own" if names else "none; does pcscd run?"
        if real.reader in names:
            there.check(real.reader, is_ours)
            return real
        names = [name for name in names if there.may_be_followed(name, is_ours)]
    name = _only_fitting(real, names, settings, none)
    return replace(real, reader=name)


def _only_fitting(real: RealCard, names: Sequence[str], settings: Settings, none: str) -> str:
    """The reader that a word fits; `none` is what to say of no readers at all."""
    word = real.reader
    fitting = [name for name in names if word in name]
    if not fitting and real.emulated:
        fitting = _readers_with_token(real, names, settings)
    if not fitting:
        raise ReaderError(
            f"there is no PC/SC reader {word!r}" if word else "there is no real PC/SC reader",
            f"the readers are: {', '.join(names) or none}",
        )
    if len(fitting) > 1:
        raise ReaderError(
            f"{len(fitting)} PC/SC readers could be meant", f"name one: {', '.join(fitting)}"
        )
    return fitting[0]


def _readers_with_token(real: RealCard, readers: Iterable[str], settings: Settings) -> list[str]:
    from vccid.keys.token_contents import in_reader, tokens_in_readers

    environment = (*settings.pkcs11.environment, *real.environment)
    every = tokens_in_readers(settings.real_cards.module, environment)
    places = [place for place in every if place.label == real.reader]
    return [name for name in readers if in_reader(places, name)]


def _require_pyscard() -> None:
    try:
        import smartcard  # noqa: F401
    except ImportError as error:
        raise ReaderError(
            "real cards need pyscard, which is not installed", "apt install python3-pyscard"
        ) from error
