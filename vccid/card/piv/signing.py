# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card issuer's signatures: CMS SignedData (RFC 5652) as SP 800-73-5 part 1 wants it.

3.1.2.1 for the CHUID, 3.1.7 for the security object; FIPS 201-3, 4.2.3.1 for a picture. Written
out by hand: of the libraries that make CMS, none that Debian 12 has takes another content type or
another signed attribute.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from vccid.card.piv.contents import Issuer
from vccid.iso7816 import ber

_INTEGER, _OCTET_STRING, _OID, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_EXPLICIT_0 = 0xA0

# Object identifiers, DER without tag and length.
_SIGNED_DATA: Final = bytes.fromhex("2A 86 48 86 F7 0D 01 07 02")
_CONTENT_TYPE: Final = bytes.fromhex("2A 86 48 86 F7 0D 01 09 03")
_MESSAGE_DIGEST: Final = bytes.fromhex("2A 86 48 86 F7 0D 01 09 04")
_SHA256: Final = bytes.fromhex("60 86 48 01 65 03 04 02 01")
_ECDSA_SHA256: Final = bytes.fromhex("2A 86 48 CE 3D 04 03 02")
_PIV_SIGNER_DN: Final = bytes.fromhex("60 86 48 01 65 03 06 05")
#: id-PIV-CHUIDSecurityObject, 2.16.840.1.101.3.6.1.
CHUID_CONTENT: Final = bytes.fromhex("60 86 48 01 65 03 06 01")
#: id-PIV-biometricObject, 2.16.840.1.101.3.6.2.
BIOMETRIC_CONTENT: Final = bytes.fromhex("60 86 48 01 65 03 06 02")
#: Attributes of that: pivFASC-N, and entryUUID (RFC 4530); the value of each is an OCTET STRING.
PIV_FASC_N: Final = bytes.fromhex("60 86 48 01 65 03 06 06")
ENTRY_UUID: Final = bytes.fromhex("2B 06 01 01 10 04")
#: The LDS security object of ICAO, 1.3.27.1.1.1.
LDS_CONTENT: Final = bytes.fromhex("2B 1B 01 01 01")

#: id-PIV-content-signing, an extended key usage.
CONTENT_SIGNING: Final = x509.ObjectIdentifier("2.16.840.1.101.3.6.7")


def new_issuer(serial: str, start: datetime.datetime, end: datetime.datetime) -> Issuer:
    """A new issuer for one card, its certificate valid from `start` to `end` (UTC)."""
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=False,
        crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return new_certificate(
        f"Issuer of card {serial}",
        start,
        end,
        [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (usage, True),
            (x509.ExtendedKeyUsage([CONTENT_SIGNING]), True),
        ],
    )


def new_certificate(
    name: str,
    start: datetime.datetime,
    end: datetime.datetime,
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
) -> Issuer:
    """A new P-256 key with a certificate of its own signature.

    Args:
        name: common name, 64 characters at most.
        start: UTC, as `end`.
        end: of its validity.
        extensions: each with whether it is critical.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "vccid"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(key, hashes.SHA256())
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return Issuer(pkcs8, certificate.public_bytes(Encoding.DER))


def signed_data(
    issuer: Issuer,
    content_type: bytes,
    content: bytes,
    *,
    detached: bool,
    certificate: bool,
    attributes: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """A ContentInfo of SignedData, version 3, with one SignerInfo.

    Args:
        issuer: who signs.
        content_type: object identifier, without tag and length.
        content: what is signed.
        detached: whether the content stays outside.
        certificate: whether the issuer's goes in.
        attributes: more signed ones, object identifier and the content of an OCTET STRING.
    """
    signer = x509.load_der_x509_certificate(issuer.certificate)
    key = load_der_private_key(issuer.pkcs8, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signed = _attributes(signer, content_type, content, attributes)
    # RFC 5652, 5.4: what is signed has the tag of a SET, and what stands there its own.
    signature = key.sign(ber.encode(_SET, signed), ec.ECDSA(hashes.SHA256()))
    digest = _sequence(ber.encode(_OID, _SHA256))
    encapsulated = ber.encode(_OID, content_type)
    if not detached:
        encapsulated += ber.encode(_EXPLICIT_0, ber.encode(_OCTET_STRING, content))
    signer_info = _sequence(
        ber.encode(_INTEGER, b"\x01"),
        _sequence(signer.issuer.public_bytes(), _integer(signer.serial_number)),
        digest,
        ber.encode(_EXPLICIT_0, signed),
        _sequence(ber.encode(_OID, _ECDSA_SHA256)),
        ber.encode(_OCTET_STRING, signature),
    )
    data = _sequence(
        ber.encode(_INTEGER, b"\x03"),
        ber.encode(_SET, digest),
        _sequence(encapsulated),
        ber.encode(_EXPLICIT_0, issuer.certificate) if certificate else b"",
        ber.encode(_SET, signer_info),
    )
    return _sequence(ber.encode(_OID, _SIGNED_DATA), ber.encode(_EXPLICIT_0, data))


def lds_security_object(hashes_by_group: dict[int, bytes]) -> bytes:
    """LDSSecurityObject version 0: the SHA-256 of each data group."""
    groups = b"".join(
        _sequence(ber.encode(_INTEGER, bytes((group,))), ber.encode(_OCTET_STRING, digest))
        for group, digest in hashes_by_group.items()
    )
    return _sequence(
        ber.encode(_INTEGER, b"\x00"), _sequence(ber.encode(_OID, _SHA256)), _sequence(groups)
    )


def _attributes(
    signer: x509.Certificate,
    content_type: bytes,
    content: bytes,
    more: Iterable[tuple[bytes, bytes]],
) -> bytes:
    """The signed attributes in DER's order of a SET OF."""
    digest = hashlib.sha256(content).digest()
    attributes = [
        _attribute(_CONTENT_TYPE, ber.encode(_OID, content_type)),
        _attribute(_MESSAGE_DIGEST, ber.encode(_OCTET_STRING, digest)),
        _attribute(_PIV_SIGNER_DN, signer.subject.public_bytes()),
        *(_attribute(kind, ber.encode(_OCTET_STRING, value)) for kind, value in more),
    ]
    return b"".join(sorted(attributes))


def _attribute(kind: bytes, value: bytes) -> bytes:
    return _sequence(ber.encode(_OID, kind), ber.encode(_SET, value))


def _sequence(*parts: bytes) -> bytes:
    return ber.encode(_SEQUENCE, b"".join(parts))


def _integer(value: int) -> bytes:
    return ber.encode(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))
