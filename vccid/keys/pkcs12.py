# SPDX-License-Identifier: LGPL-2.1-or-later
"""PKCS #12 files (RFC 7292), whatever OpenSSL opens, and PBMAC1 (RFC 9579) also where it cannot.

All certificates and keys are read, for a card may be made of several; the certificates' bytes as
they stand there, for OpenSSL would encode them anew.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from ctypes import byref, c_void_p
from functools import partial
from typing import Final

from vccid import ber
from vccid.errors import SourceUnusable, WrongPassword
from vccid.keys.content import AskPassword, Content, FoundCertificate, FoundKey
from vccid.keys.libcrypto import wipe
from vccid.keys.openssl import (
    Pkcs7,
    algorithm,
    decoded,
    encoded,
    free_stack,
    items,
    lacks_algorithm,
    library,
    object_name,
    reasons,
)
from vccid.keys.pkcs8 import (
    cipher_of,
    encode_info,
    key_of,
    lacking,
    oid_name,
    scheme_name,
    with_legacy,
    wrong_password,
)

#: Decrypts with one form of a password; NULL where that does not do.
_Attempt = Callable[[bytes | None], int | None]

# NIDs of <openssl/obj_mac.h>: the kinds of content, of bags, and of certificates.
_DATA, _ENCRYPTED_DATA = 21, 26
_KEY_BAG, _SHROUDED_KEY_BAG, _CERT_BAG, _SAFE_CONTENTS_BAG = 150, 151, 152, 155
_X509_CERTIFICATE: Final = 158
_PBMAC1: Final = "PBMAC1"

#: PKCS #9's friendlyName, a BMPString (RFC 2985, 5.5.1).
_FRIENDLY_NAME: Final = bytes.fromhex("2A 86 48 86 F7 0D 01 09 14")
_BMP_STRING: Final = 0x1E

#: HMACs of PBMAC1 (RFC 8018, B.1.1 and B.1.2) by the last number of their object identifiers.
_HMACS: Final = {7: "sha1", 8: "sha224", 9: "sha256", 10: "sha384", 11: "sha512"}
#: Bytes of a key, and rounds, beyond which a file means to keep us busy.
_MOST_KEY: Final = 64
_MOST_ROUNDS: Final = 100_000_000
#: 1.2.840.113549.2, the arc of those.
_DIGESTS: Final = bytes.fromhex("2A 86 48 86 F7 0D 02")


def looks_like_pkcs12(data: bytes) -> bool:
    """Whether a file begins as a PFX does, whole or not: SEQUENCE, INTEGER 3 (RFC 7292, 4)."""
    start = 2 + (data[1] & 0x7F) if len(data) > 1 and data[1] > 0x80 else 2
    return data[:1] == b"\x30" and data[start : start + 3] == b"\x02\x01\x03"


def read_pkcs12(path: object, data: bytes, ask: AskPassword) -> Content | None:
    """Everything in a PKCS #12 file; None where it is none.

    Args:
        path: what to call it in a message.
        ask: asked only where the file does not open without a password.

    Raises:
        SourceUnusable: it needs what OpenSSL lacks, or is damaged.
        PasswordNeeded, WrongPassword: it is encrypted.
    """
    with decoded("PKCS12", data) as (pfx, _):
        return None if pfx is None else _Opened(path, pfx, ask).read()


class _Opened:
    """A PFX and the passwords it may be read with."""

    def __init__(self, path: object, pfx: int, ask: AskPassword) -> None:
        self._path = path
        self._pfx = pfx
        self._ask = ask
        #: what to decrypt with: forms of one password, all of them tried
        self._forms: list[bytes | None] | None = None
        self._sealed_by_mac = bool(library().PKCS12_mac_present(pfx))
        self._found = Content()

    def read(self) -> Content:
        if self._sealed_by_mac:
            self._check_mac()
        safes = library().PKCS12_unpack_authsafes(self._pfx)
        if not safes:
            reasons()
            raise self._damaged()
        try:
            for safe in items(safes):
                self._read_safe(safe)
        finally:
            free_stack(safes, "PKCS7_free")
        return self._found

    def _check_mac(self) -> None:
        # No password at all and an empty one are two things (RFC 7292, B.1), and files have both.
        for form in (None, b""):
            if self._mac_fits(form):
                self._forms = [form]
                return
        for form in _forms(self._ask()):
            if self._mac_fits(form):
                self._forms = [form]
                return
        raise wrong_password(self._path, certain=True)

    def _mac_fits(self, form: bytes | None) -> bool:
        identifier = c_void_p()
        openssl = library()
        openssl.PKCS12_get0_mac(None, byref(identifier), None, None, self._pfx)
        name, parameters = algorithm(identifier.value or 0)
        if object_name(name) == _PBMAC1:
            return self._pbmac1_fits(parameters, form or b"")
        length = len(form or b"")
        fits, why = with_legacy(lambda: openssl.PKCS12_verify_mac(self._pfx, form, length))
        if not fits and lacks_algorithm(why):
            raise lacking(self._path, f"a MAC by {object_name(name)}", why)
        return bool(fits)

    def _pbmac1_fits(self, parameters: bytes, password: bytes) -> bool:
        try:
            content, mac = _authenticated(encoded("PKCS12", self._pfx))
            return hmac.compare_digest(pbmac1(parameters, password, content), mac)
        except (ValueError, KeyError, IndexError, StopIteration):
            raise SourceUnusable(
                f"{self._path} has a MAC by PBMAC1 of a kind that is not known here",
                "export it again with HMAC-SHA-256 and PBKDF2 (RFC 9579)",
            ) from None

    def _read_safe(self, safe: int) -> None:
        kind = library().OBJ_obj2nid(Pkcs7.from_address(safe).type)
        if kind == _DATA:
            bags = library().PKCS12_unpack_p7data(safe)
            reasons()
        elif kind == _ENCRYPTED_DATA:
            bags = self._decrypt_safe(safe)
        else:
            self._found.others.append("a part encrypted for a public key")
            return
        if not bags:
            raise self._damaged()
        try:
            self._read_bags(bags)
        finally:
            free_stack(bags, "PKCS12_SAFEBAG_free")

    def _decrypt_safe(self, safe: int) -> int:
        unpack = library().PKCS12_unpack_p7encdata
        return self._decrypted(
            lambda form: unpack(safe, form, len(form or b"")), lambda: _safe_cipher(safe)
        )

    def _read_bags(self, bags: int) -> None:
        openssl = library()
        for bag in items(bags):
            kind = openssl.PKCS12_SAFEBAG_get_nid(bag)
            name = _friendly_name(bag)
            if kind == _KEY_BAG:
                info = openssl.PKCS12_SAFEBAG_get0_p8inf(bag)
                self._found.keys.append(FoundKey(key_of(encode_info(info)), name))
            elif kind == _SHROUDED_KEY_BAG:
                self._found.keys.append(FoundKey(self._shrouded(bag), name))
            elif kind == _CERT_BAG and openssl.PKCS12_SAFEBAG_get_bag_nid(bag) == _X509_CERTIFICATE:
                self._found.certificates.append(FoundCertificate(_certificate(bag), name))
            elif kind == _SAFE_CONTENTS_BAG:
                self._read_bags(openssl.PKCS12_SAFEBAG_get0_safes(bag))
            else:
                self._found.others.append("a list of revoked certificates, or a secret")

    def _shrouded(self, bag: int) -> object | None:
        openssl = library()
        sealed = openssl.PKCS12_SAFEBAG_get0_pkcs8(bag)
        info = self._decrypted(
            lambda form: openssl.PKCS12_decrypt_skey(bag, form, len(form or b"")),
            lambda: cipher_of(sealed),
        )
        try:
            return key_of(encode_info(info))
        finally:
            openssl.PKCS8_PRIV_KEY_INFO_free(info)

    def _decrypted(self, attempt: _Attempt, cipher: Callable[[], str]) -> int:
        """What OpenSSL makes of an encrypted part."""
        if self._forms is None:
            # Nothing but a MAC could have told that there is no password.
            self._forms = [None, b""]
            try:
                return self._decrypted(attempt, cipher)
            except WrongPassword:
                self._forms = _forms(self._ask())
        for form in self._forms:
            result, why = with_legacy(partial(attempt, form))
            if result:
                return result
            if lacks_algorithm(why):
                raise lacking(self._path, cipher(), why)
        if not self._sealed_by_mac:
            raise wrong_password(self._path, certain=False)
        raise SourceUnusable(
            f"the password opens {self._path}, but not all that is in it: {cipher()} refuses it",
            "it has a second password, or is damaged; export it again with one password",
        )

    def _damaged(self) -> SourceUnusable:
        return SourceUnusable(f"PKCS#12 file {self._path} is damaged", "restore it from a backup")


def _forms(password: bytes) -> list[bytes | None]:
    """A password as OpenSSL of today takes it, and as its program before 1.1.0 wrote it.

    That took each byte for a character: openssl-pkcs12(1) tries both.
    """
    old = password.decode("latin-1").encode("utf-8")
    return [password] if old == password else [password, old]


def _certificate(bag: int) -> bytes:
    """A CertBag's certificate (RFC 7292, 4.2.3); OpenSSL would give it in its own encoding."""
    _, value, *_ = next(ber.elements(encoded("PKCS12_SAFEBAG", bag))).parts()
    return value.parts()[0].parts()[1].parts()[0].content


def _friendly_name(bag: int) -> str:
    """A bag's friendlyName. Not by OpenSSL, whose older versions take any value for a string."""
    whole = encoded("PKCS12_SAFEBAG", bag)
    try:
        attributes = next(ber.elements(whole)).parts()[2:]
        for attribute in attributes[0].parts() if attributes else ():
            kind, values = attribute.parts()
            if kind.content == _FRIENDLY_NAME and values.parts()[0].tag == _BMP_STRING:
                return values.parts()[0].content.decode("utf-16-be", "replace").rstrip("\0")
    except (ValueError, IndexError, StopIteration):
        pass
    finally:
        wipe(whole)  # It may hold a key.
    return ""


def _safe_cipher(safe: int) -> str:
    """What an EncryptedData (RFC 5652, 8) is encrypted with, for people."""
    try:
        wrapped = next(ber.elements(encoded("PKCS7", safe))).parts()[1]
        info = wrapped.parts()[0].parts()[1].parts()[1].parts()
        return scheme_name(oid_name(info[0].encoded), info[1].encoded)
    except (ValueError, IndexError, StopIteration):
        return "a cipher"


def _authenticated(pfx: bytes) -> tuple[bytes, bytes]:
    """What a PFX's MAC is over, and the MAC (RFC 7292, 4). Takes DER, as OpenSSL encodes it."""
    _, authsafe, mac_data = next(ber.elements(pfx)).parts()
    content = authsafe.parts()[1].parts()[0].content
    return content, mac_data.parts()[0].parts()[1].content


def pbmac1(parameters: bytes, password: bytes, content: bytes) -> bytes:
    """A message's MAC by PBMAC1 with PBKDF2 and HMAC (RFC 8018, 7.1; RFC 9579, 4).

    Args:
        parameters: PBMAC1-params, DER.
        password: UTF-8.

    Raises:
        ValueError, KeyError, IndexError, StopIteration: they are none, or of another kind.
    """
    derivation, scheme = next(ber.elements(parameters)).parts()
    salt, iterations, *rest = derivation.parts()[1].parts()
    if rest[0].tag != ber.INTEGER:
        raise ValueError("RFC 9579 wants the key's length written out")
    prf = _hmac(rest[1].parts()[0].content) if len(rest) > 1 else "sha1"
    length, count = (int.from_bytes(part.content, "big") for part in (rest[0], iterations))
    if salt.tag != ber.OCTET_STRING or not 0 < length <= _MOST_KEY or not 0 < count <= _MOST_ROUNDS:
        raise ValueError("no salt, or numbers that nobody means")
    key = hashlib.pbkdf2_hmac(prf, password, salt.content, count, length)
    return hmac.digest(key, content, _hmac(scheme.parts()[0].content))


def _hmac(oid: bytes) -> str:
    if oid[:-1] != _DIGESTS:
        raise ValueError("no HMAC that is known here")
    return _HMACS[oid[-1]]
