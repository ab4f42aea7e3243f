# SPDX-License-Identifier: LGPL-2.1-or-later
"""OpenSSL's readers of what people keep certificates and keys in, through ctypes.

What OpenSSL takes, a card takes: `cryptography` refuses certificates that real cards hold, and
knows one key to a PKCS#12 file. A refusal is NULL here and never an exception; why, is in
OpenSSL's own queue of errors (ERR_get_error(3)).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import Structure, byref, c_char_p, c_int, c_long, c_size_t, c_ulong, c_void_p
from functools import cache
from typing import Final

from vccid import openssl_library
from vccid.openssl_legacy import is_there

_PROTOTYPES: Final[dict[str, tuple[object, ...]]] = {
    "ERR_get_error": (c_ulong,),
    "ERR_reason_error_string": (c_char_p, c_ulong),
    "ERR_clear_error": (None,),
    "OSSL_PROVIDER_try_load": (c_void_p, c_void_p, c_char_p, c_int),
    "CRYPTO_free": (None, c_void_p, c_char_p, c_int),
    "OPENSSL_sk_num": (c_int, c_void_p),
    "OPENSSL_sk_value": (c_void_p, c_void_p, c_int),
    "OPENSSL_sk_pop_free": (None, c_void_p, c_void_p),
    "BIO_new": (c_void_p, c_void_p),
    "BIO_s_mem": (c_void_p,),
    "BIO_new_mem_buf": (c_void_p, c_char_p, c_int),
    "BIO_ctrl_pending": (c_size_t, c_void_p),
    "BIO_read": (c_int, c_void_p, c_void_p, c_int),
    "BIO_free": (c_int, c_void_p),
    "OBJ_obj2nid": (c_int, c_void_p),
    "OBJ_obj2txt": (c_int, c_void_p, c_int, c_void_p, c_int),
    "d2i_ASN1_OBJECT": (c_void_p, c_void_p, c_void_p, c_long),
    "ASN1_OBJECT_free": (None, c_void_p),
    "ASN1_STRING_get0_data": (c_void_p, c_void_p),
    "ASN1_STRING_length": (c_int, c_void_p),
    "ASN1_STRING_to_UTF8": (c_int, c_void_p, c_void_p),
    "ASN1_TIME_to_tm": (c_int, c_void_p, c_void_p),
    "X509_free": (None, c_void_p),
    "d2i_X509": (c_void_p, c_void_p, c_void_p, c_long),
    "X509_get_subject_name": (c_void_p, c_void_p),
    "X509_get_issuer_name": (c_void_p, c_void_p),
    "X509_get0_notBefore": (c_void_p, c_void_p),
    "X509_get0_notAfter": (c_void_p, c_void_p),
    "X509_check_ca": (c_int, c_void_p),
    "X509_get0_pubkey": (c_void_p, c_void_p),
    "X509_get_X509_PUBKEY": (c_void_p, c_void_p),
    "X509_PUBKEY_get0_param": (c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
    "i2d_X509_PUBKEY": (c_int, c_void_p, c_void_p),
    "X509_NAME_print_ex": (c_int, c_void_p, c_void_p, c_int, c_ulong),
    "X509_NAME_get_index_by_NID": (c_int, c_void_p, c_int, c_int),
    "X509_NAME_get_entry": (c_void_p, c_void_p, c_int),
    "X509_NAME_ENTRY_get_data": (c_void_p, c_void_p),
    "EVP_PKEY_free": (None, c_void_p),
    "EVP_PKEY_get0_type_name": (c_char_p, c_void_p),
    "EVP_PKEY_get_group_name": (c_int, c_void_p, c_void_p, c_size_t, c_void_p),
    "EVP_PKEY2PKCS8": (c_void_p, c_void_p),
    "d2i_AutoPrivateKey": (c_void_p, c_void_p, c_void_p, c_long),
    "PEM_read_bio_PrivateKey": (c_void_p, c_void_p, c_void_p, c_void_p, c_char_p),
    "i2d_PKCS8_PRIV_KEY_INFO": (c_int, c_void_p, c_void_p),
    "PKCS8_PRIV_KEY_INFO_free": (None, c_void_p),
    "d2i_X509_SIG": (c_void_p, c_void_p, c_void_p, c_long),
    "X509_SIG_free": (None, c_void_p),
    "X509_SIG_get0": (None, c_void_p, c_void_p, c_void_p),
    "PKCS8_decrypt": (c_void_p, c_void_p, c_char_p, c_int),
    "X509_ALGOR_get0": (None, c_void_p, c_void_p, c_void_p, c_void_p),
    "i2d_PKCS7": (c_int, c_void_p, c_void_p),
    "PKCS7_free": (None, c_void_p),
    "PKCS12_SAFEBAG_free": (None, c_void_p),
    "d2i_PKCS12": (c_void_p, c_void_p, c_void_p, c_long),
    "i2d_PKCS12": (c_int, c_void_p, c_void_p),
    "PKCS12_free": (None, c_void_p),
    "PKCS12_mac_present": (c_int, c_void_p),
    "PKCS12_get0_mac": (None, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
    "PKCS12_verify_mac": (c_int, c_void_p, c_char_p, c_int),
    "PKCS12_unpack_authsafes": (c_void_p, c_void_p),
    "PKCS12_unpack_p7data": (c_void_p, c_void_p),
    "PKCS12_unpack_p7encdata": (c_void_p, c_void_p, c_char_p, c_int),
    "PKCS12_SAFEBAG_get_nid": (c_int, c_void_p),
    "PKCS12_SAFEBAG_get_bag_nid": (c_int, c_void_p),
    "PKCS12_SAFEBAG_get0_p8inf": (c_void_p, c_void_p),
    "PKCS12_SAFEBAG_get0_pkcs8": (c_void_p, c_void_p),
    "PKCS12_SAFEBAG_get0_safes": (c_void_p, c_void_p),
    "i2d_PKCS12_SAFEBAG": (c_int, c_void_p, c_void_p),
    "PKCS12_decrypt_skey": (c_void_p, c_void_p, c_char_p, c_int),
}  # fmt: skip

#: ERR_LIB_OSSL_DECODER, which says "unsupported" of any bytes that are no key.
_DECODER: Final = 60
#: What OpenSSL calls an algorithm, or a provider, that it does not have.
_UNSUPPORTED: Final = ("unsupported", "unknown", "no such", "not supported", "fetch failed")


class Pkcs7(Structure):
    """The head of PKCS7, as <openssl/pkcs7.h> shows it."""

    _fields_ = (
        ("asn1", c_void_p), ("length", c_long), ("state", c_int), ("detached", c_int),
        ("type", c_void_p),
    )  # fmt: skip


@cache
def library() -> ctypes.CDLL:
    """libcrypto, with the types of what is used here.

    Raises:
        SourceUnusable: there is none.
    """
    loaded = ctypes.CDLL(openssl_library.name())
    for name, (result, *arguments) in _PROTOTYPES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


@cache
def load_legacy() -> bool:
    """Have the legacy provider's algorithms too; False where it is missing."""
    done = is_there() and bool(library().OSSL_PROVIDER_try_load(None, b"legacy", 1))
    library().ERR_clear_error()
    return done


def reasons() -> list[str]:
    """Why the last call of this thread refused, as OpenSSL puts it; they are forgotten then."""
    found = []
    while code := library().ERR_get_error():
        if code >> 23 & 0xFF != _DECODER:
            reason = library().ERR_reason_error_string(code) or b""
            found.append(reason.decode("ascii", "replace"))
    return found


def lacks_algorithm(why: list[str]) -> bool:
    """Whether OpenSSL refused for want of an algorithm, and not for what it was given."""
    return any(word in reason for reason in why for word in _UNSUPPORTED)


@contextmanager
def decoded(kind: str, data: bytes) -> Iterator[tuple[int | None, int]]:
    """`d2i_KIND` of some bytes, freed at the end: the object or None, and the bytes it took."""
    start = c_char_p(data)
    first = ctypes.cast(start, c_void_p).value or 0
    found = getattr(library(), f"d2i_{kind}")(None, byref(start), len(data))
    library().ERR_clear_error()
    try:
        yield found, (ctypes.cast(start, c_void_p).value or 0) - first
    finally:
        if found:
            getattr(library(), f"{kind}_free")(found)
        library().ERR_clear_error()


def encoded(kind: str, thing: int) -> bytes:
    """`i2d_KIND` of an object: DER, b"" where OpenSSL cannot."""
    encode = getattr(library(), f"i2d_{kind}")
    length = encode(thing, None)
    if length <= 0:
        library().ERR_clear_error()
        return b""
    room = ctypes.create_string_buffer(length)
    place = c_void_p(ctypes.addressof(room))
    encode(thing, byref(place))
    result = room.raw
    ctypes.memset(room, 0, length)  # It may be a key.
    return result


def items(stack: int | None) -> list[int]:
    """What is on one of OpenSSL's stacks."""
    if not stack:
        return []
    return [library().OPENSSL_sk_value(stack, n) for n in range(library().OPENSSL_sk_num(stack))]


def free_stack(stack: int | None, free: str) -> None:
    """Free a stack and, by the function of this name, what is on it."""
    if stack:
        library().OPENSSL_sk_pop_free(stack, ctypes.cast(getattr(library(), free), c_void_p))


def string(value: int) -> bytes:
    """The content of an ASN1_STRING."""
    length = library().ASN1_STRING_length(value)
    return ctypes.string_at(library().ASN1_STRING_get0_data(value), length) if length > 0 else b""


def object_name(value: int | None) -> str:
    """An object identifier's name, or its numbers where it has none (OBJ_obj2txt(3))."""
    room = ctypes.create_string_buffer(128)
    library().OBJ_obj2txt(room, len(room), value, 0)
    return room.value.decode("ascii", "replace")


def algorithm(identifier: int) -> tuple[int | None, bytes]:
    """An AlgorithmIdentifier's object, and its parameters where they are a SEQUENCE (all of it)."""
    name, kind, value = c_void_p(), c_int(), c_void_p()
    library().X509_ALGOR_get0(byref(name), byref(kind), byref(value), identifier)
    sequence = kind.value == 16 and value.value is not None
    return name.value, string(value.value) if sequence and value.value else b""
