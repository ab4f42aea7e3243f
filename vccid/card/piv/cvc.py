# SPDX-License-Identifier: LGPL-2.1-or-later
"""Card verifiable certificates, and who signs them (SP 800-73-5 part 2, 4.1.5; part 1, 3.3.7)."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from vccid.card.piv.cipher_suites import SUITES, Suite
from vccid.card.piv.signing import CONTENT_SIGNING
from vccid.card.piv.sm_credential import SmCredential
from vccid.iso7816 import ber

_CVC, _PROFILE, _ISSUER, _SUBJECT = 0x7F21, 0x5F29, 0x42, 0x5F20
_PUBLIC_KEY, _OID, _POINT, _ROLE, _SIGNATURE = 0x7F49, 0x06, 0x86, 0x5F4C, 0x5F37
_SEQUENCE, _BIT_STRING, _NULL = 0x30, 0x03, b"\x05\x00"

#: Roles (5F4C): a card's own key, and one that signs cards' certificates.
_CARD_ROLE, _SIGNER_ROLE = b"\x00", b"\x12"

_RSA_SHA256: Final = bytes.fromhex("2A 86 48 86 F7 0D 01 01 0B")
#: Bytes of who issued and of who is named in an intermediate certificate.
_SHORT: Final = 8


def new_credential(
    kind: str, guid: bytes, pairing_code: str, start: datetime.datetime, end: datetime.datetime
) -> SmCredential:
    """A new key 04 with its certificates.

    Args:
        kind: a suite's name, or that with "-intermediate" behind it: the X.509 certificate is then
            one of RSA, as most issuers' are, and signs an intermediate CVC.
        guid: the card's UUID.
        pairing_code: eight digits.
        start: UTC, as `end`: when the signer's certificate begins to hold.
        end: and when it ends.
    """
    suite = SUITES[kind.partition("-")[0]]
    key = ec.generate_private_key(suite.curve)
    above: Any = ec.generate_private_key(suite.curve)
    by_intermediate = kind != suite.name
    content_signer: Any = rsa.generate_private_key(65537, 2048) if by_intermediate else above
    signer_certificate, identifier = _content_signer(content_signer, suite, start, end)
    intermediate = b""
    if by_intermediate:
        intermediate, identifier = _intermediate(suite, above, content_signer, identifier)
    certificate = card_certificate(suite, identifier, guid, key.public_key(), above)
    signer = ber.encode_all([(0x70, signer_certificate), (0x71, b"\0")]) + intermediate
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return SmCredential(suite, pkcs8, certificate, signer + b"\xfe\0", pairing_code)


def card_certificate(
    suite: Suite,
    issuer: bytes,
    guid: bytes,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
) -> bytes:
    """The CVC of key 04.

    Args:
        issuer: 8 bytes, by which its signer is known.
        guid: the card's UUID.
    """
    body = _body(suite, issuer, guid, public, _CARD_ROLE)
    algorithm = ber.encode(_SEQUENCE, ber.encode(_OID, suite.signature_oid))
    return _signed(body, algorithm, signer.sign(body, ec.ECDSA(suite.hash)))


def _intermediate(
    suite: Suite, key: ec.EllipticCurvePrivateKey, signer: rsa.RSAPrivateKey, issuer: bytes
) -> tuple[bytes, bytes]:
    """An intermediate CVC, and by what its key is known: always of SHA-256 (4.1.5)."""
    subject = hashlib.sha1(_public_key(suite, key.public_key())).digest()[:_SHORT]
    body = _body(suite, issuer, subject, key.public_key(), _SIGNER_ROLE)
    algorithm = ber.encode(_SEQUENCE, ber.encode(_OID, _RSA_SHA256) + _NULL)
    signature = signer.sign(body, padding.PKCS1v15(), hashes.SHA256())
    return _signed(body, algorithm, signature), subject


def _body(
    suite: Suite, issuer: bytes, subject: bytes, public: ec.EllipticCurvePublicKey, role: bytes
) -> bytes:
    return (
        ber.encode(_PROFILE, b"\x80")
        + ber.encode(_ISSUER, issuer)
        + ber.encode(_SUBJECT, subject)
        + _public_key(suite, public)
        + ber.encode(_ROLE, role)
    )


def _public_key(suite: Suite, public: ec.EllipticCurvePublicKey) -> bytes:
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return ber.encode(_PUBLIC_KEY, ber.encode_all([(_OID, suite.curve_oid), (_POINT, point)]))


def _signed(body: bytes, algorithm: bytes, signature: bytes) -> bytes:
    value = ber.encode(_SEQUENCE, algorithm + ber.encode(_BIT_STRING, b"\0" + signature))
    return ber.encode(_CVC, body + ber.encode(_SIGNATURE, value))


def _content_signer(
    key: Any, suite: Suite, start: datetime.datetime, end: datetime.datetime
) -> tuple[bytes, bytes]:
    """The signer's certificate, DER, and the first 8 bytes of its subject key identifier."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "vccid"),
            x509.NameAttribute(NameOID.COMMON_NAME, "Secure messaging certificate signer"),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(identifier, False)
        .add_extension(x509.ExtendedKeyUsage([CONTENT_SIGNING]), True)
        .sign(key, hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else suite.hash)
    )
    return made.public_bytes(Encoding.DER), identifier.digest[:_SHORT]
