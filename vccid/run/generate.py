# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates for who has none at hand: new ones with new keys, for one run."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vccid.errors import RunFailed
from vccid.iso7816 import ber
from vccid.process.threads import Threads

#: The card's PIN.
PIN: Final = b"123456"

#: What --algorithm takes, and how to make such a key.
ALGORITHMS: Final[dict[str, Callable[[], Any]]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa4096": lambda: rsa.generate_private_key(65537, 4096),
}
#: A CAC takes RSA alone; on a curve, a PIV card's keys are made in no time.
DEFAULT_ALGORITHM: Final = {"cac": "rsa2048", "piv": "p256", "cac+piv": "rsa2048"}

_VALID: Final = datetime.timedelta(days=30)

#: Microsoft's user principal name and smart card logon; RFC 4556, 3.2.2 and 3.2.4; FIPS 201's key.
_UPN: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_SMARTCARD_LOGON: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.2")
_PKINIT_NAME: Final = x509.ObjectIdentifier("1.3.6.1.5.2.2")
_PKINIT_CLIENT: Final = x509.ObjectIdentifier("1.3.6.1.5.2.3.4")
_CARD_AUTHENTICATION: Final = x509.ObjectIdentifier("2.16.840.1.101.3.6.8")

#: What each of a card's certificates is for; the fourth is a PIV card's alone.
_AUTHENTICATION, _SIGNATURE, _ENCRYPTION, _CARD = range(4)
_COUNT: Final = {"cac": 3, "piv": 4, "cac+piv": 4}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What kind of certificates are wanted.

    Attributes:
        card: "cac", "piv" or "cac+piv".
        algorithm: one of `ALGORITHMS`.
        ca: where the certificate of the authority goes that is to issue them, or None to have
            them self-signed.
        user: NAME@REALM that certificates of an authority are to name, or None.
    """

    card: str = "cac"
    algorithm: str = "rsa2048"
    ca: Path | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class _Authority:
    """Who signs: a key, and the name it goes by."""

    key: Any
    name: x509.Name


def new_certificates(recipe: Recipe) -> dict[str, bytes]:
    """The card's by name, each with its key in PEM; the authority's certificate is written.

    Raises:
        RunFailed: that cannot be written.
    """
    names = [f"cert{number}" for number in range(1, _COUNT[recipe.card] + 1)]
    make = ALGORITHMS[recipe.algorithm]
    with Threads() as pool:  # OpenSSL makes them side by side
        keys = list(pool.map(lambda name: make(), names))
    authority = None if recipe.ca is None else _new_authority(recipe.ca, recipe.algorithm)
    return {
        name: _certificate_with_key(name, purpose, key, recipe, authority)
        for purpose, (name, key) in enumerate(zip(names, keys, strict=True))
    }


def write(certificates: dict[str, bytes], directory: Path) -> list[str]:
    """Write a file for each, for our own user alone; returns the files."""
    paths = []
    for name, pem in certificates.items():
        path = directory / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        paths.append(str(path))
    return paths


def _new_authority(path: Path, algorithm: str) -> _Authority:
    key = ALGORITHMS[algorithm]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vccid run CA")])
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    try:
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror}", "name another") from error
    return _Authority(key, name)


def _certificate_with_key(
    name: str, purpose: int, key: Any, recipe: Recipe, authority: _Authority | None
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = authority or _Authority(key, subject)
    builder = (
        _builder(subject, issuer.name, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(purpose, recipe)), critical=False)
    )
    if recipe.card != "cac":
        builder = builder.add_extension(_usage_of(purpose, key), critical=True)
    if authority is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(own, critical=False)
        if recipe.user is not None and purpose == _AUTHENTICATION:
            builder = builder.add_extension(_user_names(recipe.user), critical=False)
    certificate = builder.sign(issuer.key, hashes.SHA256())
    private: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + private


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _VALID)
    )


def _purposes(purpose: int, recipe: Recipe) -> list[x509.ObjectIdentifier]:
    if recipe.card == "cac":
        return [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
    if purpose == _AUTHENTICATION:
        return [ExtendedKeyUsageOID.CLIENT_AUTH, _SMARTCARD_LOGON, _PKINIT_CLIENT]
    if purpose == _CARD:
        return [_CARD_AUTHENTICATION]
    return [ExtendedKeyUsageOID.EMAIL_PROTECTION]


def _usage_of(purpose: int, key: Any) -> x509.KeyUsage:
    """SP 800-73-5 part 1 and the PIV certificate profiles: what each slot's key is for."""
    if purpose == _SIGNATURE:
        return _usage(digital_signature=True, content_commitment=True)
    if purpose != _ENCRYPTION:
        return _usage(digital_signature=True)
    agrees = isinstance(key, ec.EllipticCurvePrivateKey)
    return _usage(key_agreement=True) if agrees else _usage(key_encipherment=True)


def _usage(**allowed: bool) -> x509.KeyUsage:
    bits = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{bit: allowed.get(bit, False) for bit in bits})


def _user_names(user: str) -> x509.SubjectAlternativeName:
    """Who it is to Windows, SSSD and a KDC: UPN, and KRB5PrincipalName (RFC 4556, 3.2.2)."""
    name, _, realm = user.rpartition("@")
    upn = ber.encode(0x0C, user.encode())
    components = _sequence(b"".join(_general_string(part) for part in name.split("/")))
    principal = _sequence(
        _tagged(0, ber.encode(0x02, b"\x01")),  # NT-PRINCIPAL
        _tagged(1, components),
    )
    kerberos = _sequence(_tagged(0, _general_string(realm)), _tagged(1, principal))
    return x509.SubjectAlternativeName(
        [x509.OtherName(_UPN, upn), x509.OtherName(_PKINIT_NAME, kerberos)]
    )


def _general_string(text: str) -> bytes:
    return ber.encode(0x1B, text.encode())


def _sequence(*parts: bytes) -> bytes:
    return ber.encode(0x30, b"".join(parts))


def _tagged(number: int, content: bytes) -> bytes:
    return ber.encode(0xA0 | number, content)
