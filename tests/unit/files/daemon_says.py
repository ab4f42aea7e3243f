# SPDX-License-Identifier: LGPL-2.1-or-later
"""Replies of a daemon, as ListReaders and CardInfo give them."""

from __future__ import annotations

import base64
import datetime
import functools
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding


def reader(name: str = "vccid0", *, card: bool = False, generation: int = 0) -> dict[str, Any]:
    """A reader, as far as the file view looks at it."""
    return {
        "name": name,
        "generation": generation,
        "card": {} if card else None,
        "changed": 1_700_000_000.5 + generation,
    }


def card_info(names: list[str], tries: int = 3) -> dict[str, Any]:
    """A card with RSA certificates of these names."""
    der = base64.b64encode(certificate("x", _rsa())).decode()
    return {
        "card": {"kind": "cac", "serial": "0102", "label": "x", "pin": "card", "tries": tries},
        "atr": base64.b64encode(b"\x3b\x00").decode(),
        "certificates": [{"name": name, "der": der} for name in names],
    }


def certificate(name: str, key: Any) -> bytes:
    """A self-signed certificate, DER."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=10))
        .sign(key, algorithm)
        .public_bytes(Encoding.DER)
    )


@functools.cache
def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)
