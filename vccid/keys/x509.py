# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must be known of a certificate: its key, and when it is valid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from vccid.errors import KeyUnsuitable, SourceUnusable
from vccid.keys.base import PublicKey
from vccid.keys.ec import point_of
from vccid.keys.holder import Holder
from vccid.keys.libcrypto import rsa_modulus
from vccid.keys.rsa import Modulus


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate whose key its place on the card can hold.

    Attributes:
        der: the certificate.
        public: its key.
        not_before: first moment of validity (RFC 5280, 4.1.2.5).
        not_after: last moment of validity.
    """

    der: bytes
    public: PublicKey
    not_before: datetime
    not_after: datetime

    def validity_warning(self, name: str, now: datetime) -> str | None:
        """One line where it is not valid at `now`, else None."""
        if now > self.not_after:
            return f"certificate {name} expired on {self.not_after:%Y-%m-%d}; it still signs"
        if now < self.not_before:
            start = f"{self.not_before:%Y-%m-%d}"
            return f"certificate {name} is not valid before {start}; it still signs"
        return None

    def valid(self, now: datetime) -> bool:
        """Whether `now` lies within its validity."""
        return self.not_before <= now <= self.not_after


def parse_certificate(der: bytes, name: str, holder: Holder) -> Certificate:
    """Read a certificate that is to go on a card.

    Args:
        name: what the user called it.
        holder: where it goes.

    Raises:
        SourceUnusable: it is no X.509 certificate.
        KeyUnsuitable: its key is none that can go there.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        not_before, not_after = validity(certificate)
    except ValueError:
        raise SourceUnusable(f"certificate {name} is no X.509 certificate, or is damaged") from None
    return Certificate(
        der=der,
        public=_public(certificate, der, name, holder),
        not_before=not_before,
        not_after=not_after,
    )


def validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """notBefore and notAfter, in UTC."""
    return _in_utc(certificate, "not_valid_before"), _in_utc(certificate, "not_valid_after")


def _in_utc(certificate: x509.Certificate, name: str) -> datetime:
    """cryptography 42 warns of the attributes without a time zone, and older ones have no other."""
    time: datetime | None = getattr(certificate, f"{name}_utc", None)
    return getattr(certificate, name).replace(tzinfo=UTC) if time is None else time


def public_key(der: bytes) -> PublicKey | None:
    """A certificate's key where it is one a card may have; no RSA key costs `cryptography`'s.

    Raises:
        ValueError, UnsupportedAlgorithm: `cryptography` cannot read it.
    """
    value = rsa_modulus(der)
    if value is not None:
        return Modulus.of(value)
    return point_of(x509.load_der_x509_certificate(der).public_key())


def _public(certificate: x509.Certificate, der: bytes, name: str, holder: Holder) -> PublicKey:
    try:
        public = public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if public is None or not holder.fits(public):
        kind = _describe(certificate) if public is None else public.description
        raise KeyUnsuitable(
            f"the key of certificate {name} is {kind}, which {holder.name} cannot hold",
            f"{holder.name} takes {holder.takes}",
        )
    return public


def _describe(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "of an unknown type"
    if isinstance(key, EllipticCurvePublicKey):
        return f"EC on {key.curve.name}"
    return type(key).__name__.strip("_").removesuffix("PublicKey")
