# SPDX-License-Identifier: LGPL-2.1-or-later
"""A certificate in words (RFC 5280), for `vccidctl card info`."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vccid.keys.x509 import validity


def describe(der: bytes) -> dict[str, str]:
    """Names (RFC 4514), validity (ISO 8601, UTC) and the kind of key of a DER certificate."""
    certificate = x509.load_der_x509_certificate(der)
    not_before, not_after = validity(certificate)
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": _time(not_before),
        "not_after": _time(not_after),
        "key": _key(certificate),
    }


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    return type(key).__name__.removesuffix("PublicKey")
