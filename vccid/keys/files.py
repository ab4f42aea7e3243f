# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates and keys in files: PEM (RFC 7468), DER (X.690) and PKCS#12 (RFC 7292)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from vccid.errors import PrivateKeyMissing, SourceUnusable, WrongPassword
from vccid.keys.base import PrivateKey
from vccid.keys.libcrypto import RawRsa, wipe
from vccid.keys.passwords import Passwords, password_needed
from vccid.keys.readable import read_small_file
from vccid.keys.rsa import Modulus
from vccid.keys.x509 import Certificate, parse_certificate

#: One textual encoding (RFC 7468, 2); its label is group 1.
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
#: The start of a PFX: SEQUENCE with its length as group 1, INTEGER 3 (RFC 7292, 4).
_PFX: Final = re.compile(rb"\x30(\x82..|\x83...|\x80)\x02\x01\x03", re.DOTALL)
#: Where the key of cert.pem may be, beside it, when it is not inside.
_KEY_ENDINGS: Final = (".key", "-key.pem")


class FileKey(PrivateKey):
    """An RSA key held in memory by libcrypto."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self.modulus = Modulus.of(key.private_numbers().public_numbers.n)
        pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        try:
            self._rsa = RawRsa(pkcs8, self.modulus.size)
        finally:
            wipe(pkcs8)

    @property
    def size_bits(self) -> int:
        return self.modulus.bits

    def raw(self, block: bytes) -> bytes:
        self.modulus.check(block)
        return self._rsa.apply(block)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file held: certificates in DER, and a private key of any type."""

    certificates: Sequence[bytes]
    key: object | None


def load_file(
    path: Path, passwords: Passwords, name: str, applet: str
) -> tuple[Certificate, FileKey]:
    """Load a certificate and its key from a file, or its key from the file beside it.

    Args:
        name: what the user called it.
        applet: where it goes, for people.

    Raises:
        SourceUnusable: missing, unreadable, damaged, or of another kind.
        PrivateKeyMissing: neither in the file nor beside it.
        KeyUnsuitable: no RSA key of a size the applet holds.
        PasswordNeeded, WrongPassword: it is encrypted.
    """
    content = _read(path, passwords)
    if not content.certificates:
        raise SourceUnusable(f"{path} holds no certificate", "give the certificate's file")
    key = content.key if content.key is not None else _key_beside(path, passwords)
    certificate = _matching(content.certificates, key, name, applet)
    if certificate is None or not isinstance(key, RSAPrivateKey):
        # The first one's key may be what is wrong: then that is what the user hears.
        parse_certificate(content.certificates[0], name, applet)
        raise PrivateKeyMissing(f"the private key with {path} belongs to another certificate")
    return certificate, FileKey(key)


def _matching(
    certificates: Sequence[bytes], key: object, name: str, applet: str
) -> Certificate | None:
    """The certificate the key belongs to; a file often has its issuers too."""
    if not isinstance(key, RSAPrivateKey):
        return None
    wanted = key.public_key().public_numbers()
    for der in certificates:
        try:
            public = x509.load_der_x509_certificate(der).public_key()
        except (ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(public, type(key.public_key())) and public.public_numbers() == wanted:
            return parse_certificate(der, name, applet)
    return None


def _read(path: Path, passwords: Passwords) -> _Content:
    data = read_small_file(path, "certificate file")
    try:
        if b"-----BEGIN " in data:
            return _read_pem(path, data, passwords)
        if pfx := _PFX.match(data):
            # A file cut short must not be asked a password for.
            length = int.from_bytes(pfx[1][1:], "big")
            if length and len(data) != pfx.end(1) + length:
                raise SourceUnusable(f"PKCS#12 file {path} is damaged", "restore it from a backup")
            return _read_pkcs12(path, data, passwords)
        return _read_der(path, data)
    finally:
        wipe(data)


def _read_pem(path: Path, data: bytes, passwords: Passwords) -> _Content:
    certificates: list[bytes] = []
    key: object | None = None
    for block in _PEM.finditer(data):
        if block[1].endswith(b"PRIVATE KEY") and key is None:
            key = _pem_key(path, block[0], passwords)
        elif block[1] == b"CERTIFICATE":
            try:
                certificate = x509.load_pem_x509_certificate(block[0])
            except ValueError:
                raise SourceUnusable(f"a certificate in {path} is damaged") from None
            certificates.append(certificate.public_bytes(Encoding.DER))
    return _Content(certificates, key)


def _pem_key(path: Path, block: bytes, passwords: Passwords) -> object:
    try:
        return load_pem_private_key(block, None)
    except TypeError:
        pass  # It is encrypted.
    except (ValueError, UnsupportedAlgorithm):
        raise SourceUnusable(
            f"the private key in {path} is damaged or of an unknown kind",
            f"see what OpenSSL makes of it: openssl pkey -noout -in {path}",
        ) from None
    password = _password(path, passwords)
    try:
        return load_pem_private_key(block, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _wrong_password(path) from None


def _read_pkcs12(path: Path, data: bytes, passwords: Passwords) -> _Content:
    loaded = _open_pkcs12(data, None)
    if loaded is None:
        password = _password(path, passwords)
        loaded = _open_pkcs12(data, password)
    if loaded is None:
        raise _wrong_password(path)
    certificates = [
        entry.certificate.public_bytes(Encoding.DER)
        for entry in (loaded.cert, *loaded.additional_certs)
        if entry is not None
    ]
    return _Content(certificates, loaded.key)


def _open_pkcs12(data: bytes, password: bytes | None) -> pkcs12.PKCS12KeyAndCertificates | None:
    """None where OpenSSL refuses it, which it does alike for a wrong password and for damage."""
    try:
        return pkcs12.load_pkcs12(data, password)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _read_der(path: Path, data: bytes) -> _Content:
    try:
        x509.load_der_x509_certificate(data)
    except ValueError:
        raise SourceUnusable(
            f"{path} is neither PEM, nor a DER certificate, nor PKCS#12, or is damaged"
        ) from None
    return _Content([bytes(bytearray(data))], None)


def _key_beside(path: Path, passwords: Passwords) -> object:
    candidates = [path.with_name(path.stem + ending) for ending in _KEY_ENDINGS]
    for candidate in candidates:
        if os.path.lexists(candidate):  # what cannot be followed or read says so itself
            return _read_key_file(candidate, passwords)
    names = " nor ".join(candidate.name for candidate in candidates)
    raise PrivateKeyMissing(
        f"certificate {path} has no private key in it, and beside it is neither {names}",
        "put both into one PEM file, or the key beside the certificate",
    )


def _read_key_file(path: Path, passwords: Passwords) -> object:
    data = read_small_file(path, "private key file")
    try:
        if b"-----BEGIN " in data:
            key = _read_pem(path, data, passwords).key
        else:
            key = _der_key(path, data, passwords)
    finally:
        wipe(data)
    if key is None:
        raise SourceUnusable(f"{path} holds no private key")
    return key


def _der_key(path: Path, data: bytes, passwords: Passwords) -> object:
    try:
        return load_der_private_key(data, None)
    except TypeError:
        pass  # It is encrypted.
    except (ValueError, UnsupportedAlgorithm):
        raise SourceUnusable(
            f"the private key in {path} is damaged or of an unknown kind"
        ) from None
    password = _password(path, passwords)
    try:
        return load_der_private_key(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _wrong_password(path) from None


def _password(path: Path, passwords: Passwords) -> bytes:
    password = passwords.find(path.name)
    if password is None:
        raise password_needed(str(path), path.name)
    return password


def _wrong_password(path: Path) -> WrongPassword:
    return WrongPassword(f"wrong password for {path}", "it was tried once")
