# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must be known of a certificate: its key, and when it is valid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from vccid.errors import KeyUnsuitable, SourceUnusable
from vccid.keys.base import PublicKey
from vccid.keys.ec import point_of
from vccid.keys.holder import Holder
from vccid.keys.libcrypto import rsa_modulus
from vccid.keys.parsers import public_key_of
from vccid.keys.rsa import Modulus
from vccid.keys.x509_reading import read_certificate

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509Certificate

#: Of a certificate whose dates are none: older than any other.
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate whose key its place on the card can hold.

    Attributes:
        der: the certificate, byte for byte as it was found.
        public: its key.
        not_before: first moment of validity (RFC 5280, 4.1.2.5), None where it is no time.
        not_after: last moment of validity, None where it is no time.
    """

    der: bytes
    public: PublicKey
    not_before: datetime | None
    not_after: datetime | None

    @property
    def began(self) -> datetime:
        """`not_before`, to compare two certificates by."""
        return self.not_before or _NEVER

    def validity_warning(self, name: str, now: datetime) -> str | None:
        """One line where it is not valid at `now`, else None."""
        if self.not_before is None or self.not_after is None:
            return f"the dates of certificate {name} cannot be read; it still signs"
        if now > self.not_after:
            return f"certificate {name} expired on {self.not_after:%Y-%m-%d}; it still signs"
        if now < self.not_before:
            start = f"{self.not_before:%Y-%m-%d}"
            return f"certificate {name} is not valid before {start}; it still signs"
        return None

    def valid(self, now: datetime) -> bool:
        """Whether `now` lies within its validity."""
        if self.not_before is None or self.not_after is None:
            return False
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
    reading = read_certificate(der)
    if reading is None:
        raise SourceUnusable(
            f"certificate {name} is no X.509 certificate, or is damaged",
            "openssl x509 -noout -text -in FILE shows what OpenSSL makes of it",
        )
    public = public_key(der)
    if public is None or not holder.fits(public):
        kind = reading.key_kind if public is None else public.description
        raise KeyUnsuitable(
            f"the key of certificate {name} is {kind}, which {holder.name} cannot hold",
            f"{holder.name} takes {holder.takes}",
        )
    return Certificate(der, public, reading.not_before, reading.not_after)


def public_key(der: bytes) -> PublicKey | None:
    """A certificate's key where it is one a card may have; no RSA key costs `cryptography`'s."""
    value = rsa_modulus(der)
    return Modulus.of(value) if value is not None else point_of(parsed_key(der))


def parsed_key(der: bytes) -> Any:
    """A certificate's key as `cryptography` has it; None for one it does not take."""
    reading = read_certificate(der)
    return None if reading is None else public_key_of(reading.key_info)


def validity_of(der: bytes) -> tuple[datetime | None, datetime | None]:
    """A certificate's notBefore and notAfter in UTC, None where one is no time."""
    reading = read_certificate(der)
    return (None, None) if reading is None else (reading.not_before, reading.not_after)


def validity(certificate: X509Certificate) -> tuple[datetime, datetime]:
    """The same of one that `cryptography` has read, so that it is known to be sound."""
    return _in_utc(certificate, "not_valid_before"), _in_utc(certificate, "not_valid_after")


def _in_utc(certificate: X509Certificate, name: str) -> datetime:
    """cryptography 42 warns of the attributes without a time zone, and older ones have no other."""
    time: datetime | None = getattr(certificate, f"{name}_utc", None)
    return getattr(certificate, name).replace(tzinfo=UTC) if time is None else time
