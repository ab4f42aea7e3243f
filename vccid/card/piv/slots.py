# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where given certificates go on a PIV card, and what a card has when it is new."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from vccid.card.piv.algorithms import algorithm_of
from vccid.card.piv.attestation import new_attester
from vccid.card.piv.choices import NO_CHOICES, Choices
from vccid.card.piv.contents import Contents, ManagementKey
from vccid.card.piv.cvc import new_credential
from vccid.card.piv.data_model import CERTIFICATES, FACIAL_IMAGE, PRINTED_INFORMATION
from vccid.card.piv.facial_image import facial_image
from vccid.card.piv.keys import CardKey, public_template
from vccid.card.piv.objects import (
    certificate,
    new_objects,
    printed_information,
    with_secure_messaging,
)
from vccid.card.piv.profiles import PLAIN, Profile
from vccid.card.piv.references import KEYS, Origin, default_pin_policy, key_name
from vccid.card.piv.signing import new_issuer
from vccid.errors import KeyUnsuitable
from vccid.keys.base import Credential, PublicKey
from vccid.keys.holder import Holder
from vccid.keys.x509 import parsed_key, public_key, validity_of
from vccid.keys.x509_reading import read_certificate

#: As many certificates as there are key references for.
MAX_CREDENTIALS: Final = len(KEYS)

_TAKES: Final = "RSA keys of 1024, 2048, 3072 or 4096 bits, P-256, P-384, Ed25519 and X25519"

#: How long a blank card, and an issuer's certificate beyond the card's last, is good for.
_LIFE: Final = datetime.timedelta(days=3652)

#: The last moment a certificate can name (RFC 5280, 4.1.2.5), as many do that never expire.
_LAST: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


def piv_holder(position: int) -> Holder:
    """Where the certificate at a position of the request goes; the first has position 0."""
    reference = KEYS[position] if position < len(KEYS) else KEYS[-1]
    return Holder(f"PIV key {reference:02X} ({key_name(reference)})", _TAKES, _fits)


def _fits(public: PublicKey) -> bool:
    return algorithm_of(public) is not None


def guid_of(certificates: Sequence[bytes], kind: str = "PIV") -> bytes:
    """The UUID of the card with these certificates (DER): version 5's form (RFC 4122, 4.3).

    Other certificates, or others in order, or another kind of card, make another card: caches
    never mix two up.
    """
    digest = hashlib.sha256(f"vccid {kind}".encode())
    for der in certificates:
        digest.update(hashlib.sha256(der).digest())
    guid = bytearray(digest.digest()[:16])
    guid[6] = guid[6] & 0x0F | 0x50
    guid[8] = guid[8] & 0x3F | 0x80
    return bytes(guid)


def given_keys(credentials: Sequence[Credential]) -> dict[int, CardKey]:
    """The keys of given certificates, by reference.

    Raises:
        KeyUnsuitable: one is none that the card can hold.
        ValueError: more than `MAX_CREDENTIALS`.
    """
    if len(credentials) > MAX_CREDENTIALS:
        raise ValueError(f"a PIV card holds at most {MAX_CREDENTIALS} certificates")
    keys = {}
    for reference, item in zip(KEYS, credentials, strict=False):
        shown = public_key(item.certificate)
        algorithm = None if shown is None else algorithm_of(shown)
        public = parsed_key(item.certificate)
        if algorithm is None or public is None:
            raise KeyUnsuitable(f"{item.name} has no key of a PIV card", f"it takes {_TAKES}")
        keys[reference] = CardKey(
            algorithm,
            item.key,
            public_template(public),
            Origin.IMPORTED,
            default_pin_policy(reference),
            source=item.name,
        )
    return keys


def new_contents(
    guid: bytes,
    credentials: Sequence[Credential],
    now: datetime.datetime,
    profile: Profile = PLAIN,
    choices: Choices = NO_CHOICES,
) -> Contents:
    """What a card has when it is new: its identity, and the certificates given.

    Args:
        guid: 16 bytes.
        credentials: in the order of `KEYS`.
        now: UTC.
        profile: whom it is taken for.
        choices: what it has besides.
        profile: whom it is taken for.

    Raises:
        VccidError: a picture cannot be had, or is none.
    """
    picture = choices.picture()
    ends = [validity_of(item.certificate)[1] for item in credentials]
    expires = max((end for end in ends if end is not None), default=now + _LIFE)
    start, end = now - datetime.timedelta(days=1), max(now, min(expires, _LAST - _LIFE)) + _LIFE
    issuer = new_issuer(guid.hex(), start, end)
    objects = new_objects(guid, expires.date(), issuer)
    for reference, item in zip(KEYS, credentials, strict=False):
        objects[CERTIFICATES[reference]] = certificate(item.certificate)
    if choices.printed_information:
        name = _common_name(credentials) or "vccid"
        objects[PRINTED_INFORMATION] = printed_information(name, expires.date(), guid)
    if picture is not None:
        objects[FACIAL_IMAGE] = facial_image(picture, guid, issuer, start, expires)
    attester = new_attester(guid.hex(), start, end, profile)
    management = ManagementKey(profile.management)
    held = None
    if choices.secure_messaging:
        code = f"{secrets.randbelow(10**8):08}"
        held = new_credential(choices.secure_messaging, guid, code, start, end)
    objects = with_secure_messaging(objects, held)
    return Contents(guid, issuer, attester, objects, management=management, secure_messaging=held)


def _common_name(credentials: Sequence[Credential]) -> str:
    reading = read_certificate(credentials[0].certificate) if credentials else None
    return "" if reading is None else reading.common_name


def emptied(contents: Contents, profile: Profile = PLAIN) -> Contents:
    """What is left of a card's contents after a reset: who it is, and for as long as it may be."""
    _, end = validity_of(contents.issuer.certificate)
    assert end is not None, "we made it"
    held = contents.secure_messaging
    objects = new_objects(contents.guid, end.date(), contents.issuer)
    management = ManagementKey(profile.management)
    return Contents(
        contents.guid,
        contents.issuer,
        contents.attester,
        with_secure_messaging(objects, held),
        management=management,
        secure_messaging=held,
    )
