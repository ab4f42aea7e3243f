# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates with their keys in files: PEM, DER and PKCS#12, one pair or several."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vccid.errors import CertificateNotFound, KeySourceError, PrivateKeyMissing, SourceUnusable
from vccid.keys.base import PrivateKey, PublicKey
from vccid.keys.content import AskPassword, Content, FoundCertificate, FoundKey
from vccid.keys.ec import point_of
from vccid.keys.file_key import file_key
from vccid.keys.holder import Holder
from vccid.keys.libcrypto import wipe
from vccid.keys.parsers import NotTaken, public_key_of, take
from vccid.keys.passwords import Passwords, password_needed
from vccid.keys.pem import is_pem, pkcs7_certificates, read_pem
from vccid.keys.pkcs8 import der_key, is_der_key
from vccid.keys.pkcs12 import looks_like_pkcs12, read_pkcs12
from vccid.keys.readable import read_small_file
from vccid.keys.rsa import Modulus
from vccid.keys.x509 import Certificate, parse_certificate, public_key
from vccid.keys.x509_reading import read_certificate

#: SEQUENCE, with which everything in DER begins here.
_SEQUENCE: Final = b"\x30"
#: Where the key of cert.pem may be, beside it, when it is not inside: also as certbot names it,
#: with a number in its archive (fullchain3.pem, privkey3.pem).
_KEY_ENDINGS: Final = (".key", "-key.pem", ".key.pem")
_NUMBER: Final = re.compile("[0-9]+$")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key in a file.

    Attributes:
        number: by the certificates that have a key, from 1.
        der: the certificate, byte for byte.
        key: one of `cryptography`'s.
        name: its friendlyName, else the certificate's common name.
        first: whether no certificate before it has the same key.
    """

    number: int
    der: bytes
    key: object
    name: str
    first: bool

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.number} ({self.name})" if self.name else str(self.number)


class KeyFile:
    """A file, read once, of which certificates are taken with their keys."""

    def __init__(self, path: Path, passwords: Passwords) -> None:
        """Read it, and where no key is in it the one beside it.

        Raises:
            SourceUnusable: missing, unreadable, damaged, or of another kind.
            PrivateKeyMissing: neither in the file nor beside it.
            PasswordNeeded, WrongPassword: it is encrypted.
        """
        self.path = path
        content = _read(path, passwords)
        if not content.certificates:
            raise SourceUnusable(
                f"{path} holds no certificate{_but(content)}", "give the certificate's file"
            )
        keys = content.keys or _keys_beside(path, passwords)
        self._certificates = content.certificates
        self._pairs = _pairs(content.certificates, keys)
        self._taken: set[int] = set()
        self._named = False

    def take(
        self, name: str, holder: Holder, choice: str = "", turn: int = 0
    ) -> tuple[Certificate, PrivateKey]:
        """A certificate and its key.

        Args:
            name: what the user called it.
            holder: where it goes; what it cannot hold is passed over.
            choice: a pair's friendlyName, common name or number; "" for any.
            turn: how many of this file were taken before: the next one's turn comes then.

        Raises:
            PrivateKeyMissing: the keys belong to other certificates.
            KeyUnsuitable: no key that can go there.
            CertificateNotFound: `choice` names none.
        """
        if choice:
            self._named = True
            return self._open(self._chosen(choice), name, holder)
        refusals: list[KeySourceError] = []
        fitting = []
        for pair in filter(lambda pair: pair.first, self._pairs):
            try:
                parse_certificate(pair.der, name, holder)
            except KeySourceError as error:
                refusals.append(error)
            else:
                fitting.append(pair)
        if fitting:
            return self._open(fitting[turn % len(fitting)], name, holder)
        # The first one's key may be what is wrong: then that is what the user hears.
        if not refusals:
            parse_certificate(self._certificates[0].der, name, holder)
            raise PrivateKeyMissing(
                f"the private key with {self.path} belongs to another certificate"
            )
        raise refusals[0]

    def left_over(self) -> str | None:
        """What else is in the file, in one line; None where all was taken, or one was named."""
        left = [p.title for p in self._pairs if p.first and p.number not in self._taken]
        if self._named or not left:
            return None
        taken = [pair.title for pair in self._pairs if pair.number in self._taken]
        return (
            f"of {self.path.name}, {', '.join(taken)} went in; it also holds {', '.join(left)}:"
            f" {self.path.name}#NAME or #NUMBER names one"
        )

    def _chosen(self, choice: str) -> Pair:
        for pair in self._pairs:
            if choice == pair.name:
                return pair
        for pair in self._pairs:
            if choice == str(pair.number):
                return pair
        raise CertificateNotFound(
            f"{self.path} has no certificate {choice} with a key",
            f"it has {', '.join(pair.title for pair in self._pairs) or 'none'}",
        )

    def _open(self, pair: Pair, name: str, holder: Holder) -> tuple[Certificate, PrivateKey]:
        certificate = parse_certificate(pair.der, name, holder)
        key = file_key(pair.key)
        assert key is not None, "its certificate's key fits the holder"
        self._taken.add(pair.number)
        return certificate, key


def load_file(
    path: Path, passwords: Passwords, name: str, holder: Holder, choice: str = ""
) -> tuple[Certificate, PrivateKey]:
    """One certificate and its key: `KeyFile` and `KeyFile.take`."""
    return KeyFile(path, passwords).take(name, holder, choice)


def _pairs(certificates: Sequence[FoundCertificate], keys: Sequence[FoundKey]) -> list[Pair]:
    """The certificates that have a key, in their order; issuers are passed over."""
    by_public = {_public_of_key(key.key): key for key in keys if key.key is not None}
    by_public.pop(None, None)
    pairs: list[Pair] = []
    for certificate in certificates:
        reading = read_certificate(certificate.der)
        if reading is None:
            continue
        public = public_key(certificate.der) or _encoded(public_key_of(reading.key_info))
        if public is not None and (key := by_public.get(public)) is not None:
            name = certificate.name or key.name or reading.common_name
            first = all(pair.key is not key.key for pair in pairs)
            pairs.append(Pair(len(pairs) + 1, certificate.der, key.key, name, first))
    return pairs


def _public_of_key(key: Any) -> PublicKey | bytes | None:
    """A private key's public half, as a certificate's is known here."""
    if isinstance(key, RSAPrivateKey):
        return Modulus.of(key.public_key().public_numbers().n)
    try:
        public = take(lambda: key.public_key())
        return point_of(public) or _encoded(public)
    except NotTaken:
        return None


def _encoded(public: Any) -> bytes | None:
    """One of `cryptography`'s public keys, to compare by."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        return None if public is None else bytes(take(lambda: public.public_bytes(*form)))
    except NotTaken:
        return None


def _read(path: Path, passwords: Passwords) -> Content:
    data = read_small_file(path, "certificate file")
    ask = partial(_password, path, passwords)
    try:
        if data.startswith(_SEQUENCE) and (content := _read_der(path, data, ask)) is not None:
            return content
        if is_pem(data):
            return read_pem(path, data, ask)
    finally:
        wipe(data)
    raise SourceUnusable(
        f"{path} is neither PEM, nor a DER certificate, nor PKCS#12, or is damaged",
        "openssl x509 -text -in FILE, or openssl pkcs12 -info -in FILE, shows what it is",
    )


def _read_der(path: Path, data: bytes, ask: AskPassword) -> Content | None:
    """What is in a file of DER or BER; None where it is nothing of that."""
    if (content := read_pkcs12(path, data, ask)) is not None:
        return content
    if looks_like_pkcs12(data):
        # A file cut short must not be asked a password for.
        raise SourceUnusable(f"PKCS#12 file {path} is damaged", "restore it from a backup")
    if read_certificate(data) is not None:
        return Content([FoundCertificate(bytes(bytearray(data)))])
    if certificates := pkcs7_certificates(data):
        return Content([FoundCertificate(der) for der in certificates])
    if is_der_key(data):
        return Content(others=["a private key"])
    return None


def _but(content: Content) -> str:
    """What is in a file instead of certificates."""
    found = ["a private key"] if content.keys else []
    found += sorted(set(content.others))
    return f", but {', '.join(found)}" if found else ""


def _keys_beside(path: Path, passwords: Passwords) -> Sequence[FoundKey]:
    places = _places_of_key(path)
    for candidate in places:
        if os.path.lexists(candidate):  # what cannot be followed or read says so itself
            return _read_key_file(candidate, passwords)
    raise PrivateKeyMissing(
        f"certificate {path} has no private key in it, and beside it is neither"
        f" {' nor '.join(candidate.name for candidate in places)}",
        "put both into one PEM file, or the key beside the certificate",
    )


def _places_of_key(path: Path) -> list[Path]:
    """In the order they are looked for; a file may be meant by its whole name or its stem."""
    number = _NUMBER.search(path.stem)
    suffix = number[0] if number is not None else ""
    names = [path.stem + ending for ending in _KEY_ENDINGS]
    names += [f"{path.name}.key", f"privkey{suffix}.pem", f"key{suffix}.pem"]
    return [path.with_name(name) for name in dict.fromkeys(names) if name != path.name]


def _read_key_file(path: Path, passwords: Passwords) -> Sequence[FoundKey]:
    data = read_small_file(path, "private key file")
    ask = partial(_password, path, passwords)
    try:
        if is_pem(data):
            keys = read_pem(path, data, ask).keys
        elif (content := read_pkcs12(path, data, ask)) is not None:
            keys = content.keys
        else:
            keys = [FoundKey(der_key(path, data, ask))]
    finally:
        wipe(data)
    if not keys:
        raise SourceUnusable(f"{path} holds no private key")
    return keys


def _password(path: Path, passwords: Passwords) -> bytes:
    password = passwords.find(path.name)
    if password is None:
        raise password_needed(str(path), path.name)
    return password
