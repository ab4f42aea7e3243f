# SPDX-License-Identifier: LGPL-2.1-or-later
"""What makes a card somebody's: the standard's card management, and Yubico's where it has none.

SP 800-73-5 part 2, 3.3; developers.yubico.com/PIV/Introduction/Yubico_extensions.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from vccid.card.pin import Pin
from vccid.card.piv.algorithms import RSA_BITS, Algorithm
from vccid.card.piv.attestation import ATTESTATION, attest, attestation_key
from vccid.card.piv.commands import (
    Generate,
    ImportKey,
    PutData,
    Refused,
    SetManagementKey,
)
from vccid.card.piv.contents import CardMemory, Contents, ManagementKey
from vccid.card.piv.data_model import BARE, MAX_OBJECTS
from vccid.card.piv.keys import CardKey, StoredKey, generate, import_rsa, import_scalar
from vccid.card.piv.pins import PivPin, Puk
from vccid.card.piv.profiles import PLAIN, Profile
from vccid.card.piv.references import (
    APPLICATION_PIN,
    CARD_MANAGEMENT,
    KEYS,
    PUK,
    Origin,
    default_pin_policy,
)
from vccid.card.state import MAX_TRIES
from vccid.iso7816 import ber, status
from vccid.iso7816.apdu import Command

_PUBLIC_KEY: Final = 0x7F49

#: Where MOVE KEY puts a key that is deleted.
_NOWHERE: Final = 0xFF


class Personalisation:
    """Card management of one card; who may ask is the application's to know."""

    def __init__(
        self,
        memory: CardMemory,
        pin: Pin,
        puk: Puk,
        blank: Callable[[Contents, Profile], Contents],
        profile: Profile = PLAIN,
        number: int = 0,
    ) -> None:
        """Take a card.

        Args:
            memory: its contents.
            pin: its PIN.
            puk: its PUK.
            blank: what is left of contents after a reset.
            profile: whom the card is taken for.
            number: its serial number; 0 for one made of its UUID.
        """
        self._memory = memory
        self._pin = pin
        self._puk = puk
        self._blank = blank
        self._profile = profile
        self._number = number

    def put_data(self, command: Command) -> Awaitable[bytes]:
        """PUT DATA (3.3.1)."""
        put = PutData.parse(command)
        if put.tag in BARE and not put.content:
            raise Refused(status.INCORRECT_DATA)

        def write(contents: Contents) -> Contents:
            after = contents.with_object(put.tag, put.content)
            if sum(map(len, after.objects.values())) > MAX_OBJECTS:
                raise Refused(status.NOT_ENOUGH_MEMORY)
            return after

        return self._change(write)

    async def generate(self, command: Command) -> bytes:
        """GENERATE ASYMMETRIC KEY PAIR (3.3.2)."""
        wanted = Generate.parse(command)
        self._check_algorithm(wanted.algorithm)

        def write(contents: Contents) -> Contents:
            return contents.with_key(
                wanted.reference,
                StoredKey(
                    wanted.algorithm,
                    generate(wanted.algorithm),
                    Origin.GENERATED,
                    wanted.policies.pin or default_pin_policy(wanted.reference),
                    wanted.policies.touch,
                ),
            )

        await self._change(write)
        key = self._memory.key(wanted.reference)
        assert key is not None
        return ber.encode(_PUBLIC_KEY, key.public) + status.SUCCESS

    def import_key(self, command: Command) -> Awaitable[bytes]:
        """Yubico's IMPORT ASYMMETRIC KEY."""
        wanted = ImportKey.parse(command)
        self._check_algorithm(wanted.algorithm)

        def write(contents: Contents) -> Contents:
            make = import_rsa if wanted.algorithm in RSA_BITS else import_scalar
            try:
                pkcs8 = make(wanted.algorithm, *wanted.parts)
            except ValueError:
                raise Refused(status.INCORRECT_DATA) from None
            key = StoredKey(
                wanted.algorithm,
                pkcs8,
                Origin.IMPORTED,
                wanted.policies.pin or default_pin_policy(wanted.reference),
                wanted.policies.touch,
            )
            return contents.with_key(wanted.reference, key)

        return self._change(write)

    def _check_algorithm(self, algorithm: Algorithm) -> None:
        if algorithm not in self._profile.key_algorithms:
            raise Refused(status.INCORRECT_DATA)

    def move_key(self, command: Command) -> Awaitable[bytes]:
        """Yubico's MOVE KEY, from P2 to P1; to FF deletes."""
        target, source = command.p1, command.p2
        if source not in KEYS or target not in (*KEYS, _NOWHERE) or command.data:
            raise Refused(status.INCORRECT_P1_P2)

        def write(contents: Contents) -> Contents:
            key = self._memory.key(source)
            stored = contents.keys.get(source)
            if key is None or (stored is None and target != _NOWHERE):
                # One that lives in a token cannot be elsewhere.
                raise Refused(
                    status.REFERENCED_DATA_NOT_FOUND
                    if key is None
                    else status.CONDITIONS_NOT_SATISFIED
                )
            after = contents.with_key(source, None)
            return after if target == _NOWHERE else after.with_key(target, stored)

        if source == target:
            raise Refused(status.INCORRECT_P1_P2)
        return self._change(write)

    def set_management_key(self, command: Command) -> Awaitable[bytes]:
        """Yubico's SET MANAGEMENT KEY."""
        wanted = SetManagementKey.parse(command)
        key = ManagementKey(wanted.algorithm, wanted.key, wanted.touch)
        return self._change(lambda contents: replace(contents, management=key))

    async def set_retries(self, command: Command) -> bytes:
        """Yubico's SET RETRIES: as many tries, and PIN and PUK the factory's again."""
        most = self._profile.most_tries
        if not (1 <= command.p1 <= most and 1 <= command.p2 <= most):
            raise Refused(status.INCORRECT_P1_P2)
        if not isinstance(self._pin, PivPin):
            raise Refused(status.CONDITIONS_NOT_SATISFIED)  # a token's PIN is not ours to set
        await self._pin.start_again(command.p1)
        await self._puk.start_again(command.p2)
        return status.SUCCESS

    async def reset(self, command: Command) -> bytes:
        """Yubico's RESET, once PIN and PUK are both blocked: nothing that was written is left."""
        if command.p1 or command.p2:
            raise Refused(status.INCORRECT_P1_P2)
        if self._pin.tries_left or self._puk.tries_left or not isinstance(self._pin, PivPin):
            raise Refused(status.CONDITIONS_NOT_SATISFIED)
        # The contents first: where this ends between, it can be asked for again.
        await self._change(self._emptied)
        await self._pin.start_again(MAX_TRIES)
        await self._puk.start_again(MAX_TRIES)
        return status.SUCCESS

    def _emptied(self, contents: Contents) -> Contents:
        gone = dict.fromkeys(self._memory.given)
        return replace(self._blank(contents, self._profile), keys=gone)

    def metadata(self, command: Command) -> bytes:
        """Yubico's GET METADATA."""
        if command.p1:
            raise Refused(status.INCORRECT_P1_P2)
        reference = command.p2
        if reference in (APPLICATION_PIN, PUK):
            pin = self._pin if reference == APPLICATION_PIN else self._puk
            tries = bytes((min(pin.limit, 0xFF), min(pin.tries_left, 0xFF)))
            fields = [(0x01, b"\xff"), (0x05, bytes((pin.factory,))), (0x06, tries)]
        elif reference == CARD_MANAGEMENT:
            management = self._memory.contents.management
            fields = [
                (0x01, bytes((management.algorithm,))),
                (0x02, bytes((0, management.touch))),
                (0x05, bytes((management.factory,))),
            ]
        else:
            key = self._attested(reference)
            if key is None:
                raise Refused(status.REFERENCED_DATA_NOT_FOUND)
            fields = [
                (0x01, bytes((key.algorithm,))),
                (0x02, bytes((key.pin_policy, key.touch_policy))),
                (0x03, bytes((key.origin,))),
                (0x04, key.public),
            ]
        return ber.encode_all(fields) + status.SUCCESS

    def _attested(self, reference: int) -> CardKey | None:
        """The key with a reference; a double has that of its attestations too."""
        if reference == ATTESTATION and self._profile.is_double:
            return attestation_key(self._memory.contents.attester)
        return self._memory.key(reference)

    def serial(self, command: Command) -> bytes:
        """Yubico's GET SERIAL: four bytes, the same for the same card."""
        return self.number.to_bytes(4, "big") + status.SUCCESS

    @property
    def number(self) -> int:
        """The serial number, 1 to FFFFFFFF."""
        if self._number:
            return self._number
        digest = hashlib.sha256(self._memory.contents.guid).digest()
        return int.from_bytes(digest[:4], "big") >> 1 | 1

    def attest(self, command: Command) -> bytes:
        """Yubico's ATTEST, of a key that was generated on the card."""
        reference, contents = command.p1, self._memory.contents
        key, stored = self._memory.key(reference), contents.keys.get(reference)
        if command.p2:
            raise Refused(status.INCORRECT_P1_P2)
        if key is None or stored is None or stored.origin is not Origin.GENERATED:
            raise Refused(status.INCORRECT_DATA)
        certificate = attest(contents.attester, reference, stored, key, self._profile, self.number)
        return certificate + status.SUCCESS

    async def _change(self, work: Callable[[Contents], Contents]) -> bytes:
        await self._memory.change(work)
        return status.SUCCESS
