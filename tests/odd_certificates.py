# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates as issuers made them and no library would: written byte by byte.

`certificates()` is a grammar of them for hypothesis; `pfx` puts them into a PKCS#12 file.
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st

from tests.key_material import key_der, rsa_key

SEQUENCE, SET, OID, INTEGER, BOOLEAN = 0x30, 0x31, 0x06, 0x02, 0x01
BIT_STRING, OCTET_STRING, NULL, UTC_TIME, GENERALIZED_TIME = 0x03, 0x04, 0x05, 0x17, 0x18
UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E

COMMON_NAME = bytes.fromhex("55 04 03")
ORGANIZATION = bytes.fromhex("55 04 0A")
SHA256_RSA = bytes.fromhex("2A 86 48 86 F7 0D 01 01 0B")


def tlv(tag: int, *content: bytes, form: int = 0) -> bytes:
    """A data value; `form` 1 to 3: so many bytes of length more than needed; -1: indefinite."""
    body = b"".join(content)
    if form < 0:
        return bytes((tag, 0x80)) + body + b"\0\0"
    if len(body) < 0x80 and not form:
        return bytes((tag, len(body))) + body
    size = (len(body).bit_length() + 7) // 8 + max(0, form)
    return bytes((tag, 0x80 | size)) + len(body).to_bytes(size, "big") + body


def name(*attributes: tuple[bytes, int, bytes]) -> bytes:
    """A Name (RFC 5280, 4.1.2.4): type, kind of string and value of each."""
    return tlv(
        SEQUENCE,
        *(
            tlv(SET, tlv(SEQUENCE, tlv(OID, kind), tlv(string, value)))
            for kind, string, value in attributes
        ),
    )


def common_name(text: bytes, string: int = UTF8) -> bytes:
    """A Name that is a common name alone."""
    return name((COMMON_NAME, string, text))


def extension(oid: bytes, value: bytes, critical: bytes = b"") -> bytes:
    """An Extension; `critical` is the whole BOOLEAN, or nothing."""
    return tlv(SEQUENCE, tlv(OID, oid), critical, tlv(OCTET_STRING, value))


#: The key of all of them, small, so that it is quick.
KEY = rsa_key(0, 1024)

#: subjectKeyIdentifier, and basicConstraints.
KEY_ID, CONSTRAINTS = bytes.fromhex("55 1D 0E"), bytes.fromhex("55 1D 13")
#: BOOLEAN DEFAULT FALSE written out, which DER forbids (X.690, 11.5).
FALSE = tlv(BOOLEAN, b"\0")
ALGORITHM = tlv(SEQUENCE, tlv(OID, SHA256_RSA), tlv(NULL))
VALIDITY = tlv(SEQUENCE, tlv(UTC_TIME, b"250101000000Z"), tlv(UTC_TIME, b"350101000000Z"))


def certificate(
    subject: bytes = common_name(b"odd"),
    *,
    issuer: bytes = common_name(b"odd"),
    version: bytes = tlv(0xA0, tlv(INTEGER, b"\2")),
    serial: bytes = b"\1",
    validity: bytes = VALIDITY,
    extensions: Sequence[bytes] | None = None,
    key: rsa.RSAPublicKey | None = None,
    form: int = 0,
    behind: bytes = b"",
) -> bytes:
    """A certificate of these parts, its signature no signature."""
    public = KEY.public_key() if key is None else key
    info = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    more = b"" if extensions is None else tlv(0xA3, tlv(SEQUENCE, *extensions))
    tbs = tlv(
        SEQUENCE, version, tlv(INTEGER, serial), ALGORITHM, issuer, validity, subject, info, more,
        form=form,
    )  # fmt: skip
    return tlv(SEQUENCE, tbs, ALGORITHM, tlv(BIT_STRING, b"\0" + bytes(256)), form=form) + behind


#: One of each kind that was met.
MET = {
    "Latin-1 in a T61String": certificate(common_name("André".encode("latin-1"), T61)),
    "X.509 version 2": certificate(version=tlv(0xA0, tlv(INTEGER, b"\1"))),
    "X.509 version 9": certificate(version=tlv(0xA0, tlv(INTEGER, b"\x08"))),
    "version 1 with extensions": certificate(version=b"", extensions=[]),
    "critical FALSE": certificate(extensions=[extension(KEY_ID, tlv(OCTET_STRING, b"1"), FALSE)]),
    "an extension twice": certificate(
        extensions=[extension(CONSTRAINTS, tlv(SEQUENCE))] * 2,
    ),
    "constraints that are none": certificate(extensions=[extension(CONSTRAINTS, b"garbage")]),
    "a negative serial number": certificate(serial=b"\xff\x01"),
    "a serial number of 40 bytes": certificate(serial=b"\x01" * 40),
    "dates without seconds": certificate(
        validity=tlv(SEQUENCE, tlv(UTC_TIME, b"2501010000Z"), tlv(UTC_TIME, b"3501010000Z"))
    ),
    "a date with an offset": certificate(
        validity=tlv(
            SEQUENCE, tlv(UTC_TIME, b"250101000000+0100"), tlv(GENERALIZED_TIME, b"20350101000000Z")
        )
    ),
    "dates that are none": certificate(
        validity=tlv(SEQUENCE, tlv(UTC_TIME, b"tomorrow"), tlv(UTC_TIME, b"never"))
    ),
    "an odd issuer": certificate(issuer=common_name(b"\xe9", T61)),
    "no name at all": certificate(name(), issuer=name()),
    "a colon and a line break": certificate(common_name(b"a:b\nc")),
    "lengths with leading zeros": certificate(form=1),
    "indefinite lengths": certificate(form=-1),
    "bytes behind it": certificate(behind=b"\0\0behind"),
}

#: What OpenSSL itself takes for no certificate.
REFUSED = {
    "Latin-1 in a UTF8String": certificate(common_name("André".encode("latin-1"))),
    "half a BMPString": certificate(common_name(b"\0A\0", BMP)),
    "cut short": certificate()[:-1],
}

_TEXTS = st.one_of(st.binary(max_size=20), st.text(max_size=20).map(lambda text: text.encode()))
_STRINGS = st.sampled_from((UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP))
_ATTRIBUTES = st.tuples(st.sampled_from((COMMON_NAME, ORGANIZATION)), _STRINGS, _TEXTS)
_NAMES = st.lists(_ATTRIBUTES, max_size=3).map(lambda attributes: name(*attributes))
_TIMES = st.one_of(
    st.sampled_from(
        [
            tlv(UTC_TIME, b"250101000000Z"), tlv(UTC_TIME, b"2501010000Z"),
            tlv(UTC_TIME, b"250101000000-1200"), tlv(GENERALIZED_TIME, b"99991231235959Z"),
            tlv(GENERALIZED_TIME, b"20250101000000.5Z"), tlv(GENERALIZED_TIME, b"00000101000000Z"),
        ]
    ),
    st.binary(max_size=15).map(lambda text: tlv(UTC_TIME, text)),
)  # fmt: skip
_EXTENSIONS = st.builds(
    extension,
    st.sampled_from((KEY_ID, CONSTRAINTS, bytes.fromhex("2A 03 04"))),
    st.one_of(st.binary(max_size=8), st.just(tlv(SEQUENCE)), st.just(tlv(OCTET_STRING, b"1"))),
    st.sampled_from((b"", FALSE, tlv(BOOLEAN, b"\xff"), tlv(BOOLEAN, b"\1"))),
)


def certificates() -> st.SearchStrategy[bytes]:
    """Certificates of `KEY`; some are none."""
    versions = st.sampled_from([b"", *(tlv(0xA0, tlv(INTEGER, bytes((n,)))) for n in range(6))])
    return st.builds(
        certificate,
        _NAMES,
        issuer=_NAMES,
        version=versions,
        serial=st.binary(max_size=24),
        validity=st.tuples(_TIMES, _TIMES).map(lambda times: tlv(SEQUENCE, *times)),
        extensions=st.none() | st.lists(_EXTENSIONS, max_size=3),
        form=st.sampled_from((0, 0, 0, 1, 3, -1)),
        behind=st.sampled_from((b"", b"", b"\0", b"behind")),
    )


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    """In PEM, whatever it is."""
    body = textwrap.fill(base64.b64encode(der).decode("ascii"), 64)
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()


_DATA = bytes.fromhex("2A 86 48 86 F7 0D 01 07 01")
_SIGNED_DATA = bytes.fromhex("2A 86 48 86 F7 0D 01 07 02")
_KEY_BAG = bytes.fromhex("2A 86 48 86 F7 0D 01 0C 0A 01 01")
_CERT_BAG = bytes.fromhex("2A 86 48 86 F7 0D 01 0C 0A 01 03")
_X509 = bytes.fromhex("2A 86 48 86 F7 0D 01 09 16 01")


def pfx(*ders: bytes, key: rsa.RSAPrivateKey | None = None, form: int = 0) -> bytes:
    """A PKCS#12 file (RFC 7292, 4) in plain, without MAC: `KEY`, or another, and certificates."""
    bags = [_bag(_KEY_BAG, key_der(KEY if key is None else key))]
    for der in ders:
        content = tlv(SEQUENCE, tlv(OID, _X509), tlv(0xA0, tlv(OCTET_STRING, der)))
        bags.append(_bag(_CERT_BAG, content))
    safe = _data(tlv(SEQUENCE, *bags))
    return tlv(SEQUENCE, tlv(INTEGER, b"\3"), _data(tlv(SEQUENCE, safe)), form=form)


def _bag(kind: bytes, content: bytes) -> bytes:
    return tlv(SEQUENCE, tlv(OID, kind), tlv(0xA0, content))


def _data(content: bytes) -> bytes:
    return tlv(SEQUENCE, tlv(OID, _DATA), tlv(0xA0, tlv(OCTET_STRING, content)))


def pkcs7(*ders: bytes) -> bytes:
    """Certificates as `openssl crl2pkcs7` bundles them (RFC 2315, 9.1)."""
    signed = tlv(
        SEQUENCE,
        tlv(INTEGER, b"\1"),
        tlv(SET),
        tlv(SEQUENCE, tlv(OID, _DATA)),
        tlv(0xA0, *ders),
        tlv(0xA1),
        tlv(SET),
    )
    return tlv(SEQUENCE, tlv(OID, _SIGNED_DATA), tlv(0xA0, signed))
