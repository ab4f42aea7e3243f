# SPDX-License-Identifier: LGPL-2.1-or-later
"""Private keys as OpenSSL reads them: PKCS #8 (RFC 5958) and traditional, in PEM and DER."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_char_p, c_void_p
from typing import Final

from vccid import ber
from vccid.errors import SourceUnusable, WrongPassword
from vccid.keys.content import AskPassword
from vccid.keys.libcrypto import wipe
from vccid.keys.openssl import (
    algorithm,
    decoded,
    encoded,
    lacks_algorithm,
    library,
    load_legacy,
    object_name,
    reasons,
)
from vccid.keys.parsers import private_key_of

#: id-RSASSA-PSS (RFC 4055, 3.1), encoded.
_RSASSA_PSS: Final = bytes.fromhex("06 09 2A 86 48 86 F7 0D 01 01 0A")

_ANEW: Final = "encrypt the file anew with a cipher of today"
_LEGACY: Final = "install OpenSSL's legacy provider (Debian 13: openssl-provider-legacy), or "


def wrong_password(path: object, certain: bool) -> WrongPassword:
    """The error for a refused password.

    Args:
        certain: whether the file has a MAC, to tell a wrong password from damage by.
    """
    hint = "it was tried once"
    return WrongPassword(
        f"wrong password for {path}", hint if certain else f"{hint}; a damaged file answers alike"
    )


def lacking(path: object, what: str, why: list[str]) -> SourceUnusable:
    """The error for a cipher, key derivation or digest that OpenSSL has not.

    Args:
        why: what OpenSSL said.
    """
    reason = next((text for text in why if lacks_algorithm([text])), "unsupported")
    return SourceUnusable(
        f"{path} needs {what}, which OpenSSL does not do here: {reason}",
        _ANEW if load_legacy() else _LEGACY + _ANEW,
    )


def with_legacy(attempt: Callable[[], int | None]) -> tuple[int | None, list[str]]:
    """Call OpenSSL, and once more with the legacy provider where it lacks an algorithm.

    Returns:
        What it returned, and why that is NULL.
    """
    result = attempt()
    why = reasons()
    if not result and lacks_algorithm(why) and load_legacy():
        result = attempt()
        why = reasons()
    return result, why


def key_of(pkcs8: bytes) -> object | None:
    """One of `cryptography`'s keys of a PrivateKeyInfo (DER), which is overwritten."""
    inner = _rsa_in_pss(pkcs8)
    try:
        return private_key_of(pkcs8 if inner is None else inner)
    finally:
        wipe(pkcs8)
        if inner is not None:
            wipe(inner)


def _rsa_in_pss(pkcs8: bytes) -> bytes | None:
    """The RSAPrivateKey of an RSA-PSS key: a card does the bare operation with either."""
    info = ber.first_element(pkcs8)
    try:
        parts = info.parts() if info is not None else []
        if len(parts) > 2 and parts[1].parts()[0].encoded == _RSASSA_PSS:
            return parts[2].content
    except (ValueError, IndexError):
        pass
    return None


def encode_info(info: int) -> bytes:
    """A PKCS8_PRIV_KEY_INFO in DER."""
    return encoded("PKCS8_PRIV_KEY_INFO", info)


def pem_key(path: object, block: bytes, encrypted: bool, ask: AskPassword) -> object | None:
    """A private key in PEM; None for one that only OpenSSL knows.

    Raises:
        SourceUnusable: damaged, or encrypted by something OpenSSL lacks.
        WrongPassword: it does not open.
    """
    password = ask() if encrypted else b""
    openssl = library()

    def read() -> int | None:
        bio = openssl.BIO_new_mem_buf(block, len(block))
        try:
            # Without a password of ours OpenSSL would ask at the terminal.
            found: int | None = openssl.PEM_read_bio_PrivateKey(bio, None, None, password)
            return found
        finally:
            openssl.BIO_free(bio)

    key, why = with_legacy(read)
    if not key:
        raise _refused(path, encrypted, why)
    return _key_in(key)


def _key_in(key: int) -> object | None:
    """An EVP_PKEY, which is freed."""
    openssl = library()
    info = openssl.EVP_PKEY2PKCS8(key)
    openssl.EVP_PKEY_free(key)
    openssl.ERR_clear_error()
    if not info:
        return None
    try:
        return key_of(encode_info(info))
    finally:
        openssl.PKCS8_PRIV_KEY_INFO_free(info)


def _refused(path: object, encrypted: bool, why: list[str]) -> SourceUnusable | WrongPassword:
    if encrypted and lacks_algorithm(why):
        return lacking(f"the private key in {path}", "an old cipher or key derivation", why)
    if encrypted:
        return wrong_password(path, certain=False)
    return SourceUnusable(
        f"the private key in {path} is damaged or of an unknown kind",
        f"see what OpenSSL makes of it: openssl pkey -noout -in {path}",
    )


def is_der_key(data: bytes) -> bool:
    """Whether OpenSSL takes these bytes for a private key, encrypted or not."""
    key = _plain(data)
    if key:
        library().EVP_PKEY_free(key)
        return True
    with decoded("X509_SIG", data) as (sealed, _):
        return sealed is not None


def der_key(path: object, data: bytes, ask: AskPassword) -> object | None:
    """A private key in DER; None for one that only OpenSSL knows.

    Raises:
        SourceUnusable, WrongPassword: as `pem_key`.
    """
    key = _plain(data)
    if key:
        return _key_in(key)
    with decoded("X509_SIG", data) as (sealed, _):
        if sealed is None:
            raise _refused(path, False, [])
        return open_sealed(path, sealed, ask)


def _plain(data: bytes) -> int | None:
    """An EVP_PKEY, to be freed, of a key that is not encrypted; None for anything else."""
    openssl = library()
    start = c_char_p(data)
    key: int | None = openssl.d2i_AutoPrivateKey(None, byref(start), len(data))
    openssl.ERR_clear_error()
    return key


def open_sealed(path: object, sealed: int, ask: AskPassword) -> object | None:
    """The key in an EncryptedPrivateKeyInfo (an X509_SIG).

    Raises:
        SourceUnusable, WrongPassword: as `pem_key`.
    """
    openssl = library()
    password = ask()
    info, why = with_legacy(lambda: openssl.PKCS8_decrypt(sealed, password, len(password)))
    if not info:
        if lacks_algorithm(why):
            raise lacking(f"the private key in {path}", cipher_of(sealed), why)
        raise wrong_password(path, certain=False)
    try:
        return key_of(encode_info(info))
    finally:
        openssl.PKCS8_PRIV_KEY_INFO_free(info)


def cipher_of(sealed: int) -> str:
    """What an X509_SIG is encrypted with, for people (RFC 8018, A.4 for PBES2)."""
    identifier = c_void_p()
    library().X509_SIG_get0(sealed, byref(identifier), None)
    name, parameters = algorithm(identifier.value or 0)
    return scheme_name(object_name(name), parameters)


def scheme_name(name: str, parameters: bytes) -> str:
    """An encryption scheme's name; of PBES2 (RFC 8018, A.4) those of its parts.

    Args:
        parameters: PBES2-params, DER.
    """
    try:
        parts = [part.parts()[0].encoded for part in next(ber.elements(parameters)).parts()]
    except (ValueError, IndexError, StopIteration):
        parts = []
    known = [oid_name(part) for part in parts]
    return f"{name} ({', '.join(known)})" if name == "PBES2" and all(known) and known else name


def oid_name(encoded_oid: bytes) -> str:
    """An object identifier's name, from its DER."""
    with decoded("ASN1_OBJECT", encoded_oid) as (oid, _):
        return "" if oid is None else object_name(oid)
