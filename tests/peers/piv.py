# SPDX-License-Identifier: LGPL-2.1-or-later
"""PIV cards for the tests that look at them from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.key_material import certificate, key_pem, pem

PUK = "12345678"

#: The factory's management key, as Yubico's tools and OpenSC's take it.
MANAGEMENT_KEY = "010203040506070801020304050607080102030405060708"


def new_key(kind: str) -> Any:
    """A key of a kind OpenSC knows too."""
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}[kind])


class Issued:
    """Certificates with their keys in files.

    Attributes:
        files: one for each, certificate and key in PEM.
        certificates: in the same order.
        keys: likewise.
    """

    def __init__(self, directory: Path, *kinds: str) -> None:
        self.files: list[Path] = []
        self.certificates: list[x509.Certificate] = []
        self.keys: list[Any] = []
        for number, kind in enumerate(kinds, start=1):
            key = new_key(kind)
            made = certificate(f"{kind} {number}", key.public_key())
            file = directory / f"piv{number}.pem"
            file.write_bytes(pem(made) + key_pem(key))
            self.files.append(file)
            self.certificates.append(made)
            self.keys.append(key)

    @property
    def items(self) -> str:
        """As --certs takes them."""
        return ",".join(map(str, self.files))
