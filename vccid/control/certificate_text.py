# SPDX-License-Identifier: LGPL-2.1-or-later
"""A certificate in words (RFC 5280), for `vccidctl card info`."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from vccid.keys.rsa import Modulus
from vccid.keys.x509 import public_key
from vccid.keys.x509_reading import read_certificate

#: What is said of what OpenSSL cannot read.
UNKNOWN: Final = "unknown"


def describe(der: bytes) -> dict[str, str]:
    """Names (RFC 4514), validity (ISO 8601, UTC) and the kind of key of a DER certificate.

    Whatever cannot be read is `UNKNOWN`: a real card holds any bytes.
    """
    reading = read_certificate(der)
    if reading is None:
        return dict.fromkeys(("subject", "issuer", "not_before", "not_after", "key"), UNKNOWN)
    public = public_key(der)
    rsa = f"RSA-{public.bits}" if isinstance(public, Modulus) else None
    return {
        "subject": reading.subject,
        "issuer": reading.issuer,
        "not_before": _time(reading.not_before),
        "not_after": _time(reading.not_after),
        "key": rsa or reading.key_kind.removeprefix("EC on ").removeprefix("of type "),
    }


def _time(moment: datetime | None) -> str:
    return UNKNOWN if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
