# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PIV card: its parts put together, and a session's row of processors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from vccid.card.card import Card, CardInfo, SlotInfo
from vccid.card.line_ups import by_standard
from vccid.card.pin import Pin
from vccid.card.piv.application import PivApplication, is_piv
from vccid.card.piv.contents import CardMemory, Contents
from vccid.card.piv.data_model import BARE, CERTIFICATES, DATA, OBJECTS, PIN_TO_READ
from vccid.card.piv.objects import Objects, certificate_in
from vccid.card.piv.parts import PivParts, report
from vccid.card.piv.personalisation import Personalisation
from vccid.card.piv.pins import PivPin, Puk
from vccid.card.piv.profiles import PLAIN, Profile
from vccid.card.piv.references import KEYS, key_name
from vccid.card.piv.secure_messaging import SecureMessaging
from vccid.card.piv.slots import emptied
from vccid.card.processors import Process
from vccid.card.session import CardSession, Lifetime
from vccid.card.touch import Touch
from vccid.card.yubikey_management import Management, WithManagement
from vccid.errors import StateError
from vccid.iso7816 import ber, status
from vccid.iso7816.atr import CONTACTLESS_ATR, T1_ATR
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
        touch: where it is touched.
        contactless: whether hosts that come from now on are on its contactless interface.
    """

    def __init__(
        self,
        memory: CardMemory,
        pin: Pin,
        puk: Puk,
        fresh: Callable[[], Contents],
        names: Sequence[str] = (),
        atr: bytes = T1_ATR,
        release: Callable[[], None] = lambda: None,
        profile: Profile = PLAIN,
        number: int = 0,
    ) -> None:
        """Put a card together.

        Args:
            memory: its contents.
            pin: opened with the card's serial number.
            puk: likewise.
            fresh: what it had when it was new; blocks.
            names: what the user called the certificates it was made of, in the order of `KEYS`.
            atr: answer to reset.
            release: called once the card has left its reader.
            profile: whom it is taken for.
            number: what it tells of its serial number to who asks as Yubico's tools do; 0 for one
                of its own.
        """
        self.memory = memory
        self.pin = pin
        self.puk = puk
        self.serial = memory.contents.guid.hex()
        self._atr = atr
        self._fresh = fresh
        self._names = dict(zip(KEYS, names, strict=False))
        self._release = release
        self._shown: tuple[Contents, dict[int, bytes]] | None = None
        self.touch = Touch()
        self.contactless = False
        personalisation = Personalisation(memory, pin, puk, emptied, profile, number)
        self._parts = PivParts(
            memory, pin, puk, personalisation, Objects(), self.serial, profile, self.touch
        )

    @property
    def atr(self) -> bytes:
        usual = self._atr == T1_ATR
        return CONTACTLESS_ATR if self.contactless and usual else self._atr

    def info(self) -> CardInfo:
        certificates = self._certificates()
        held = self.memory.contents.secure_messaging
        names = [self._names.get(reference, key_name(reference)) for reference in certificates]
        return CardInfo(
            kind="piv",
            serial=self.serial,
            label=_common_name(next(iter(certificates.values()), None)),
            certificates=tuple(certificates.values()),
            names=tuple(names),
            tries_left=self.pin.tries_left,
            pin_kind=self.pin.kind,
            puk_tries_left=self.puk.tries_left,
            slots=tuple(self._slots(list(certificates))),
            pairing_code="" if held is None else held.pairing_code,
        )

    def _slots(self, certified: list[int]) -> Iterator[SlotInfo]:
        """What is under each key reference; `certified` are those with a certificate."""
        for reference in KEYS:
            key = self.memory.key(reference)
            index = certified.index(reference) if reference in certified else None
            shown = SlotInfo(f"{reference:02X}", key_name(reference), certificate=index)
            if key is not None:
                yield replace(
                    shown,
                    algorithm=key.algorithm.label,
                    source=key.source,
                    pin=key.pin_policy.name.lower(),
                )
            elif index is not None:
                yield shown

    def public_objects(self) -> dict[str, bytes]:
        """Every object that is read without the PIN, as GET DATA gives it, by its file's name."""
        contents, objects = self.memory.contents, self._parts.objects
        found = {}
        for tag in (*OBJECTS, *(tag for tag in contents.objects if tag not in OBJECTS)):
            content = None if tag in PIN_TO_READ else objects.read(contents, tag)
            if content is not None:
                name = OBJECTS[tag].file if tag in OBJECTS else f"{tag:06x}"
                found[name] = ber.encode(tag if tag in BARE else DATA, content)
        return found

    def _certificates(self) -> dict[int, bytes]:
        """Those that are on it now, DER, by key reference; looked for once in the same contents."""
        contents = self.memory.contents
        if self._shown is None or self._shown[0] is not contents:
            self._shown = (contents, _certificates_in(contents))
        return self._shown[1]

    async def connect(self) -> CardSession:
        lifetime = Lifetime()
        piv = self.application(lifetime)
        applications = self._applications(piv, lifetime)
        secure_messaging = None
        if self.memory.contents.secure_messaging is not None:

            def secure_messaging(following: Process) -> Process:
                return SecureMessaging(following, piv.indicators).process

        row = by_standard(applications, secure_messaging=secure_messaging)
        return CardSession(self.atr, row, lifetime)

    def _applications(self, piv: PivApplication, lifetime: Lifetime) -> Process:
        profile = self._parts.profile
        if not profile.is_double:
            return piv.process

        async def reset() -> bytes:
            try:
                await lifetime.wait_for(self.start_again())
            except StateError as error:
                return report(error, status.MEMORY_FAILURE, self.serial)
            return status.SUCCESS

        number = self._parts.personalisation.number
        management = Management(profile.version, number, reset)
        return WithManagement(piv.process, piv.deselect, is_piv, management).process

    def application(self, lifetime: Lifetime) -> PivApplication:
        """A session's application, nothing proved."""
        return PivApplication(self._parts, lifetime.wait_for, contactless=self.contactless)

    async def start_again(self) -> None:
        """Be as when it was new, PIN and PUK too; every session has proved nothing then.

        A PIN that was chosen for it then is its PIN again.

        Raises:
            StateError: the disk will not take it.
        """
        await self.memory.change(lambda contents: self._fresh())
        self.memory.resets += 1
        if isinstance(self.pin, PivPin):
            await self.pin.be_as_new()
        else:
            await self.pin.reset()
        await self.puk.be_as_new()

    def close(self) -> None:
        self._release()


def _certificates_in(contents: Contents) -> dict[int, bytes]:
    """By key reference; a host may have written anything, and what is none is passed over."""
    found = {}
    for reference in KEYS:
        der = certificate_in(contents.objects.get(CERTIFICATES[reference], b""))
        if der is not None and read_certificate(der) is not None:
            found[reference] = der
    return found


def _common_name(der: bytes | None) -> str:
    reading = None if der is None else read_certificate(der)
    return (reading.common_name if reading is not None else "") or _BLANK
