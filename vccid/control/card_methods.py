# SPDX-License-Identifier: LGPL-2.1-or-later
"""The methods of io.vccid about the card in a reader: what is shown of it, and what is reset."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import TYPE_CHECKING

from vccid.card.card import Card
from vccid.control.call_parameters import Taker
from vccid.errors import ReaderError, VccidError
from vccid.readers.managed_reader import ManagedReader
from vccid.readers.manager import ReaderManager
from vccid.wire.varlink import Parameters

if TYPE_CHECKING:
    from vccid.card.piv.piv_card import PivCard


class CardMethods:
    """What may be asked of cards; `Methods` has them in its table."""

    def __init__(self, manager: ReaderManager) -> None:
        self._manager = manager

    async def card_info(self, given: Taker) -> Parameters:
        managed = self._manager.readers.find(given.text("reader"))
        given.done()
        from vccid.control.certificate_text import describe

        card = _card_in(managed)
        info = card.info()
        return {
            "reader": managed.name,
            "card": card_summary(card),
            "atr": _base64(card.atr),
            "certificates": [
                {"name": name, **describe(der), "der": _base64(der)}
                for name, der in zip(info.names, info.certificates, strict=True)
            ],
            "slots": [asdict(slot) for slot in info.slots],
            "pairing_code": info.pairing_code,
        }

    async def reset_pin(self, given: Taker) -> Parameters:
        managed = self._manager.readers.find(given.text("reader"))
        pin, puk = given.secret("pin"), given.flag("puk")
        given.done()
        from vccid.card.cac.cac_card import CacCard
        from vccid.card.piv.piv_card import PivCard

        card = _card_in(managed)
        if not isinstance(card, CacCard | PivCard):
            raise VccidError(
                f"the PIN of the card in {managed.name} is not vccid's to reset",
                "its issuer can unblock it",
            )
        if not puk:
            await card.pin.reset(pin)
        elif isinstance(card, PivCard):
            await card.puk.reset(pin)
        else:
            raise VccidError(f"the card in {managed.name} has no PUK", "a PIV card has one")
        return {"reader": managed.name, "card": card_summary(card), "warnings": []}

    async def reset_card(self, given: Taker) -> Parameters:
        managed = self._manager.readers.find(given.text("reader"))
        given.done()
        card = _piv_card(managed, "keeps nothing that could be reset")
        await card.start_again()
        return {"reader": managed.name, "card": card_summary(card)}

    async def touch(self, given: Taker) -> Parameters:
        managed, wait = self._manager.readers.find(given.text("reader")), given.seconds("wait")
        given.done()
        card = _piv_card(managed, "has no keys that want a touch")
        if not await card.touch.press(wait or 0.0):
            raise ReaderError(
                f"nothing in {managed.name} waits for a touch",
                "wait for it: vccidctl touch --wait; or let somebody touch always: --touch always",
            )
        return {"reader": managed.name}

    async def card_objects(self, given: Taker) -> Parameters:
        managed = self._manager.readers.find(given.text("reader"))
        given.done()
        card = _piv_card(managed, "has no objects that could be exported")
        objects = [
            {"file": name, "content": _base64(content)}
            for name, content in card.public_objects().items()
        ]
        return {"reader": managed.name, "card": card_summary(card), "objects": objects}


def card_summary(card: Card) -> Parameters:
    """What every reply tells of a card."""
    info = card.info()
    return {
        "kind": info.kind,
        "serial": info.serial,
        "label": info.label,
        "pin": info.pin_kind,
        "tries": info.tries_left,
        "puk_tries": info.puk_tries_left,
    }


def _card_in(managed: ManagedReader) -> Card:
    card = managed.reader.card
    if card is not None:
        return card
    problem = managed.content.problem
    hint = "insert one: vccidctl insert --certs A,B,C"
    if problem is not None:
        hint = f"it is not in any more: {problem.message}"
    raise ReaderError(f"reader {managed.name} holds no card", hint)


def _piv_card(managed: ManagedReader, otherwise: str) -> PivCard:
    """The PIV card that is in; `otherwise`: what another card does."""
    from vccid.card.piv.piv_card import PivCard

    card = _card_in(managed)
    if not isinstance(card, PivCard):
        raise VccidError(f"the card in {managed.name} {otherwise}", "a PIV card does: --card piv")
    return card


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
