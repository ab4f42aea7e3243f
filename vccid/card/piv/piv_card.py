# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PIV card: its parts put together, and a session's row of processors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vccid.card.card import Card, CardInfo
from vccid.card.line_ups import by_standard
from vccid.card.pin import Pin
from vccid.card.piv.application import PivApplication, PivParts
from vccid.card.piv.contents import CardMemory
from vccid.card.piv.data_model import CERTIFICATES
from vccid.card.piv.objects import Objects, certificate_in
from vccid.card.piv.personalisation import Personalisation
from vccid.card.piv.pins import Puk
from vccid.card.piv.references import KEYS, key_name
from vccid.card.piv.slots import emptied
from vccid.card.session import CardSession, Lifetime
from vccid.iso7816.atr import T1_ATR
from vccid.keys.x509_reading import read_certificate

#: What an empty card is called.
_BLANK = "PIV card"


class PivCard(Card):
    """A PIV card.

    Attributes:
        memory: its objects and keys.
        pin: its PIN, shared by all its sessions.
        puk: its PUK.
        serial: its UUID, 32 hexadecimal digits.
    """

    def __init__(
        self,
        memory: CardMemory,
        pin: Pin,
        puk: Puk,
        names: Sequence[str] = (),
        atr: bytes = T1_ATR,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Put a card together.

        Args:
            memory: its contents.
            pin: opened with the card's serial number.
            puk: likewise.
            names: what the user called the certificates it was made of, in the order of `KEYS`.
            atr: answer to reset.
            release: called once the card has left its reader.
        """
        self.memory = memory
        self.pin = pin
        self.puk = puk
        self.serial = memory.contents.guid.hex()
        self._atr = atr
        self._names = dict(zip(KEYS, names, strict=False))
        self._release = release
        personalisation = Personalisation(memory, pin, puk, emptied)
        self._parts = PivParts(memory, pin, puk, personalisation, Objects(), self.serial)

    @property
    def atr(self) -> bytes:
        return self._atr

    def info(self) -> CardInfo:
        certificates = self._certificates()
        names = [self._names.get(reference, key_name(reference)) for reference in certificates]
        return CardInfo(
            kind="piv",
            serial=self.serial,
            label=_common_name(next(iter(certificates.values()), None)),
            certificates=tuple(certificates.values()),
            names=tuple(names),
            tries_left=self.pin.tries_left,
            pin_kind=self.pin.kind,
        )

    def _certificates(self) -> dict[int, bytes]:
        """Those that are on it now, DER, by key reference."""
        objects = self.memory.contents.objects
        found = {}
        for reference in KEYS:
            der = certificate_in(objects.get(CERTIFICATES[reference], b""))
            if der is not None:
                found[reference] = der
        return found

    async def connect(self) -> CardSession:
        lifetime = Lifetime()
        application = PivApplication(self._parts, lifetime.wait_for)
        return CardSession(self._atr, by_standard(application.process), lifetime)

    def close(self) -> None:
        self._release()


def _common_name(der: bytes | None) -> str:
    reading = None if der is None else read_certificate(der)
    return (reading.common_name if reading is not None else "") or _BLANK
