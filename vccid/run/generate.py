# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates for who has none at hand: three self-signed ones with new keys, for one run."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: The card's PIN.
PIN: Final = b"123456"

_NAMES: Final = ("cert1", "cert2", "cert3")
_VALID: Final = datetime.timedelta(days=30)


def new_certificates() -> dict[str, bytes]:
    """The card's three by name, each with its key in PEM."""
    return {name: _certificate_with_key(name) for name in _NAMES}


def write(certificates: dict[str, bytes], directory: Path) -> list[str]:
    """Write a file for each, for our own user alone; returns the files."""
    paths = []
    for name, pem in certificates.items():
        path = directory / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        paths.append(str(path))
    return paths


def _certificate_with_key(name: str) -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
