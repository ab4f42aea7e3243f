# SPDX-License-Identifier: LGPL-2.1-or-later
"""Yubico's ATTEST: a certificate that says a key was generated on the card, and how it is kept.

developers.yubico.com/PIV/Introduction/PIV_attestation.html. The card's own attestation key signs,
which nobody but the card's maker vouches for.
"""

from __future__ import annotations

import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.x509.oid import NameOID

from vccid.card.piv.algorithms import Algorithm
from vccid.card.piv.contents import Issuer
from vccid.card.piv.keys import CardKey, StoredKey, ready
from vccid.card.piv.profiles import PLAIN, Profile
from vccid.card.piv.references import Origin, PinPolicy
from vccid.card.piv.signing import new_certificate
from vccid.iso7816 import ber
from vccid.keys.x509 import validity

_YUBICO: Final = "1.3.6.1.4.1.41482.3"
_FIRMWARE, _SERIAL, _POLICIES, _FORM = (
    x509.ObjectIdentifier(f"{_YUBICO}.{number}") for number in (3, 7, 8, 9)
)

#: A keychain with USB-A: what is told where nothing fits.
_FORM_FACTOR: Final = b"\x01"

_INTEGER: Final = 0x02


#: The attestation key's own reference.
ATTESTATION: Final = 0xF9

#: What tells everybody whose attestations a double's are not.
_TEST_CA: Final = "vccid test CA (not Yubico): PIV Attestation"


def new_attester(
    serial: str, start: datetime.datetime, end: datetime.datetime, profile: Profile = PLAIN
) -> Issuer:
    """A new attestation key for one card, its certificate valid from `start` to `end` (UTC)."""
    return new_certificate(
        _TEST_CA if profile.is_double else f"PIV Attestation of card {serial}",
        start,
        end,
        [(x509.BasicConstraints(ca=True, path_length=0), True)],
    )


def attestation_key(attester: Issuer) -> CardKey:
    """The attestation key itself, for who asks after it."""
    return ready(StoredKey(Algorithm.P_256, attester.pkcs8, Origin.GENERATED, PinPolicy.NEVER))


def attest(
    attester: Issuer, reference: int, stored: StoredKey, key: CardKey, profile: Profile, serial: int
) -> bytes:
    """The certificate, DER.

    Args:
        attester: who signs.
        reference: the key's.
        stored: the key, generated on the card.
        key: the same.
        profile: whom the card is taken for.
        serial: the card's, as GET SERIAL tells it.
    """
    signer = x509.load_der_x509_certificate(attester.certificate)
    signing = load_der_private_key(attester.pkcs8, None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    start, end = validity(signer)
    number = ber.encode(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big"))
    whose = "YubiKey " if profile.is_double else ""
    name = x509.NameAttribute(NameOID.COMMON_NAME, f"{whose}PIV Attestation {reference:02x}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([name]))
        .issuer_name(signer.subject)
        .public_key(load_der_private_key(stored.pkcs8, None).public_key())  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for identifier, value in (
        (_FIRMWARE, profile.version),
        (_SERIAL, number),
        (_POLICIES, bytes((key.pin_policy, key.touch_policy))),
        (_FORM, _FORM_FACTOR),
    ):
        builder = builder.add_extension(x509.UnrecognizedExtension(identifier, value), False)
    return builder.sign(signing, hashes.SHA256()).public_bytes(Encoding.DER)
