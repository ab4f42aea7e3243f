# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is to show of a certificate (X.509), read by OpenSSL: whatever d2i_X509(3) takes.

Cards hold what issuers made: versions that cannot be, names in the wrong alphabet, lengths that
are no DER. Nothing of that keeps a key from signing, so nothing of it is an error here; what
cannot be read is told as unknown.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_long, c_size_t, c_void_p
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from vccid.keys.openssl import decoded, encoded, library, object_name, string

#: NID_commonName.
_COMMON_NAME: Final = 13
#: X509_check_ca(3): BasicConstraints says so.
_IS_CA: Final = 1
#: ASN1_STRING_print_ex(3), X509_NAME_print_ex(3): XN_FLAG_RFC2253 without ESC_MSB, so in UTF-8;
#: the same with every value in hexadecimal, for one that is not what its tag says.
_RFC2253: Final = 0x1110317
_UTF8: Final = _RFC2253 & ~0x4
_DUMPED: Final = _RFC2253 | 0x80
#: What OpenSSL calls curves that everybody else calls otherwise.
_CURVES: Final = {"prime256v1": "secp256r1", "prime192v1": "secp192r1"}


@dataclass(frozen=True, slots=True)
class Reading:
    """A certificate read.

    Attributes:
        length: bytes of the certificate itself; more may follow it.
        subject, issuer: RFC 4514.
        common_name: the subject's first, "" where there is none.
        not_before, not_after: validity in UTC (RFC 5280, 4.1.2.5), None where it is no time.
        authority: whether BasicConstraints says so (RFC 5280, 4.2.1.9).
        key_kind: for people: "RSA", "RSA-PSS", "EC on secp521r1", an object identifier.
        key_info: SubjectPublicKeyInfo, DER.
    """

    length: int
    subject: str
    issuer: str
    common_name: str
    not_before: datetime | None
    not_after: datetime | None
    authority: bool
    key_kind: str
    key_info: bytes


class _Tm(ctypes.Structure):  # struct tm, <time.h>
    _fields_ = (
        *((name, c_int) for name in ("sec", "min", "hour", "mday", "mon", "year")),
        ("wday", c_int), ("yday", c_int), ("isdst", c_int), ("gmtoff", c_long), ("zone", c_char_p),
    )  # fmt: skip


@lru_cache(maxsize=32)
def read_certificate(der: bytes) -> Reading | None:
    """Read a certificate; None where OpenSSL takes it for none."""
    with decoded("X509", der) as (certificate, length):
        if certificate is None:
            return None
        openssl = library()
        subject = openssl.X509_get_subject_name(certificate)
        return Reading(
            length=length,
            subject=_name(subject),
            issuer=_name(openssl.X509_get_issuer_name(certificate)),
            common_name=_common_name(subject),
            not_before=_time(openssl.X509_get0_notBefore(certificate)),
            not_after=_time(openssl.X509_get0_notAfter(certificate)),
            authority=openssl.X509_check_ca(certificate) == _IS_CA,
            key_kind=_key_kind(certificate),
            key_info=encoded("X509_PUBKEY", openssl.X509_get_X509_PUBKEY(certificate)),
        )


def printable(text: str) -> str:
    """Text of a stranger's for one line of a terminal: what moves the cursor is written out."""
    return "".join(c if c.isprintable() or c == "\xa0" else f"\\u{ord(c):04X}" for c in text)


def _name(name: int) -> str:
    openssl = library()
    for flags in (_UTF8, _DUMPED):
        bio = openssl.BIO_new(openssl.BIO_s_mem())
        try:
            if openssl.X509_NAME_print_ex(bio, name, 0, flags) >= 0:
                room = ctypes.create_string_buffer(openssl.BIO_ctrl_pending(bio) + 1)
                openssl.BIO_read(bio, room, len(room))
                return printable(room.value.decode("utf-8", "replace"))
        finally:
            openssl.BIO_free(bio)
            openssl.ERR_clear_error()
    return "unknown"


def _common_name(subject: int) -> str:
    openssl = library()
    place = openssl.X509_NAME_get_index_by_NID(subject, _COMMON_NAME, -1)
    if place < 0:
        return ""
    value = openssl.X509_NAME_ENTRY_get_data(openssl.X509_NAME_get_entry(subject, place))
    room = c_void_p()
    length = openssl.ASN1_STRING_to_UTF8(byref(room), value)
    if length < 0:  # Its bytes are not what its tag says.
        openssl.ERR_clear_error()
        return printable(string(value).decode("latin-1"))
    try:
        return printable(ctypes.string_at(room.value or 0, length).decode("utf-8", "replace"))
    finally:
        openssl.CRYPTO_free(room, None, 0)


def _time(time: int) -> datetime | None:
    tm = _Tm()
    if library().ASN1_TIME_to_tm(time, byref(tm)) != 1:
        library().ERR_clear_error()
        return None
    try:
        day = datetime(tm.year + 1900, tm.mon + 1, tm.mday, tzinfo=UTC)
        return day + timedelta(hours=tm.hour, minutes=tm.min, seconds=tm.sec)
    except (ValueError, OverflowError):
        return None


def _key_kind(certificate: int) -> str:
    openssl = library()
    key = openssl.X509_get0_pubkey(certificate)
    openssl.ERR_clear_error()
    if key:
        return key_kind(key)
    name = c_void_p()
    info = openssl.X509_get_X509_PUBKEY(certificate)
    openssl.X509_PUBKEY_get0_param(byref(name), None, None, None, info)
    return f"of type {object_name(name.value)}"


def key_kind(key: int) -> str:
    """What an EVP_PKEY is, for people."""
    openssl = library()
    kind = (openssl.EVP_PKEY_get0_type_name(key) or b"unknown").decode("ascii", "replace")
    kind = {"ED25519": "Ed25519", "ED448": "Ed448"}.get(kind, kind)
    if kind != "EC":
        return kind
    room, length = ctypes.create_string_buffer(64), c_size_t()
    if openssl.EVP_PKEY_get_group_name(key, room, len(room), byref(length)) != 1:
        openssl.ERR_clear_error()
        return "EC on a curve without a name"
    curve = room.value.decode("ascii", "replace")
    return f"EC on {_CURVES.get(curve, curve)}"
