# SPDX-License-Identifier: LGPL-2.1-or-later
"""Textual encodings (RFC 7468, and what was before it): certificates, keys, and what else there is.

Labels are those OpenSSL knows (pem.h), with PKCS #7 (RFC 2315) and OpenSSH's own.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from vccid import ber
from vccid.errors import SourceUnusable
from vccid.keys.content import AskPassword, Content, FoundCertificate, FoundKey
from vccid.keys.parsers import NotTaken, openssh_key_of
from vccid.keys.pkcs8 import pem_key
from vccid.keys.x509_reading import read_certificate

#: One textual encoding (RFC 7468, 2): its label, and what is between.
_BLOCK: Final = re.compile(rb"-----BEGIN ([^\r\n-]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN: Final = re.compile(rb"-----BEGIN ([^\r\n-]+)-----")
#: What openssl-pkcs12(1) and NSS's tools write before a block.
_FRIENDLY_NAME: Final = re.compile(rb"^\s*friendlyName: ?(.*?)\s*$", re.MULTILINE)
#: Headers of an encapsulated message (RFC 1421, 4.4), as encrypted traditional keys have.
_HEADERS: Final = re.compile(rb"\s*(?:[A-Za-z0-9-]+:[^\n]*\n(?:[ \t][^\n]*\n)*)+\s*\n")

_CERTIFICATES: Final = (b"CERTIFICATE", b"X509 CERTIFICATE")
#: OpenSSL's own: a certificate, and behind it what it is trusted for.
_TRUSTED: Final = b"TRUSTED CERTIFICATE"
_PKCS7: Final = (b"PKCS7", b"PKCS #7 SIGNED DATA", b"CMS")
_OPENSSH: Final = b"OPENSSH PRIVATE KEY"
_KEY: Final = b"PRIVATE KEY"

#: id-signedData (RFC 5652, 5.1), encoded.
_SIGNED_DATA: Final = bytes.fromhex("06 09 2A 86 48 86 F7 0D 01 07 02")
#: [0] of SignedData: the certificates.
_CERTIFICATE_SET: Final = 0xA0


def is_pem(data: bytes) -> bool:
    """Whether anything in a file is in a textual encoding."""
    return _BEGIN.search(data) is not None


def read_pem(path: object, data: bytes, ask: AskPassword) -> Content:
    """Everything in a file of textual encodings.

    Args:
        path: what to call it in a message.
        ask: asked only where a key is encrypted.

    Raises:
        SourceUnusable: a block is damaged or cut short.
        PasswordNeeded, WrongPassword: a key is encrypted.
    """
    found = Content()
    end = 0
    for block in _BLOCK.finditer(data):
        between = data[end : block.start()]
        _check_whole(path, between)
        names = _FRIENDLY_NAME.findall(between)
        name = names[-1].decode("utf-8", "replace") if names else ""
        _read_block(path, block, name, ask, found)
        end = block.end()
    _check_whole(path, data[end:])
    return found


def _check_whole(path: object, between: bytes) -> None:
    cut = _BEGIN.search(between)
    if cut is not None:
        label = cut[1].decode("ascii", "replace")
        raise SourceUnusable(
            f"the {label} in {path} has no end: the file is damaged", "restore it from a backup"
        )


def _read_block(
    path: object, block: re.Match[bytes], name: str, ask: AskPassword, found: Content
) -> None:
    label: bytes = block[1]
    if label in _CERTIFICATES:
        der = _decode(path, block[2])
        if read_certificate(der) is None:
            raise _damaged(path)
        found.certificates.append(FoundCertificate(der, name))
    elif label == _TRUSTED:
        der = _decode(path, block[2])
        reading = read_certificate(der)
        if reading is None:
            raise _damaged(path)
        found.certificates.append(FoundCertificate(der[: reading.length], name))
    elif label in _PKCS7:
        certificates = pkcs7_certificates(_decode(path, block[2])) or []
        found.certificates += [FoundCertificate(der, name) for der in certificates]
    elif label == _OPENSSH:
        found.keys.append(FoundKey(_openssh(path, block[0], ask), name))
    elif label.endswith(_KEY):
        encrypted = label.startswith(b"ENCRYPTED") or b"ENCRYPTED" in block[2].partition(b"\n\n")[0]
        found.keys.append(FoundKey(pem_key(path, block[0] + b"\n", encrypted, ask), name))
    else:
        found.others.append(f"a {label.decode('ascii', 'replace').lower()}")


def _damaged(path: object) -> SourceUnusable:
    return SourceUnusable(
        f"a certificate in {path} is damaged", f"see: openssl x509 -noout -text -in {path}"
    )


def _decode(path: object, text: bytes) -> bytes:
    headers = _HEADERS.match(text)
    try:
        return binascii.a2b_base64(text[headers.end() :] if headers else text)
    except binascii.Error:
        raise _damaged(path) from None


def pkcs7_certificates(data: bytes) -> list[bytes] | None:
    """The certificates of a SignedData (RFC 2315, 9.1), as they stand there; None for another."""
    try:
        kind, wrapped = next(ber.elements(data)).parts()
        if kind.encoded != _SIGNED_DATA:
            return None
        signed = wrapped.parts()[0].parts()
        return [
            certificate.encoded
            for part in signed
            if part.tag == _CERTIFICATE_SET
            for certificate in part.parts()
            if certificate.tag == ber.SEQUENCE
        ]
    except (ValueError, IndexError, StopIteration):
        return None


def _openssh(path: object, block: bytes, ask: AskPassword) -> object:
    """A key as ssh-keygen writes it; where it is encrypted, `cryptography` may lack bcrypt."""
    try:
        return openssh_key_of(block, None)
    except NotTaken:
        pass
    try:
        return openssh_key_of(block, ask())
    except NotTaken:
        raise SourceUnusable(
            f"the OpenSSH key in {path} does not open: a wrong password, or no cipher for it here",
            f"turn it into PEM: ssh-keygen -p -m PEM -f {path}",
        ) from None
