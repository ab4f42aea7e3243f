# SPDX-License-Identifier: LGPL-2.1-or-later
"""Raw RSA by OpenSSL's libcrypto: constant-time, and without the interpreter's lock.

EVP_PKEY_decrypt with RSA_NO_PADDING is RSADP (RFC 8017, 5.1.2); see EVP_PKEY_decrypt(3).
A certificate's modulus comes from here too: a card whose keys are in tokens then does without
cryptography's own binding, which is two megabytes in Debian 12.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from ctypes import byref, c_char_p, c_int, c_long, c_size_t, c_void_p
from functools import cache, lru_cache
from typing import Final

from vccid import openssl_library
from vccid.errors import KeyOperationError, SourceUnusable

_RSA_NO_PADDING: Final = 3
#: EVP_PKEY_RSA and EVP_PKEY_RSA_PSS: to a raw operation they are the same.
_RSA_TYPES: Final = (6, 912)


@cache
def _libcrypto() -> ctypes.CDLL:
    library = ctypes.CDLL(openssl_library.name())
    prototypes: dict[str, tuple[object, ...]] = {
        "d2i_AutoPrivateKey": (c_void_p, c_void_p, c_void_p, c_long),
        "EVP_PKEY_free": (None, c_void_p),
        "EVP_PKEY_CTX_new": (c_void_p, c_void_p, c_void_p),
        "EVP_PKEY_CTX_free": (None, c_void_p),
        "EVP_PKEY_decrypt_init": (c_int, c_void_p),
        "EVP_PKEY_CTX_set_rsa_padding": (c_int, c_void_p, c_int),
        "EVP_PKEY_decrypt": (c_int, c_void_p, c_void_p, c_void_p, c_char_p, c_size_t),
        "EVP_PKEY_get_base_id": (c_int, c_void_p),
        "EVP_PKEY_get_bn_param": (c_int, c_void_p, c_char_p, c_void_p),
        "d2i_X509": (c_void_p, c_void_p, c_void_p, c_long),
        "X509_get0_pubkey": (c_void_p, c_void_p),
        "X509_free": (None, c_void_p),
        "BN_num_bits": (c_int, c_void_p),
        "BN_bn2bin": (c_int, c_void_p, c_char_p),
        "BN_free": (None, c_void_p),
        "ERR_clear_error": (None,),
    }
    for name, (result, *arguments) in prototypes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def wipe(secret: bytes) -> None:
    """Overwrite a bytes object in place; nothing else may refer to it.

    Python shares the empty and the one-byte ones, so those are left alone.
    """
    if len(secret) > 1:
        ctypes.memset(ctypes.cast(c_char_p(secret), c_void_p), 0, len(secret))


@lru_cache(maxsize=32)
def rsa_modulus(certificate: bytes) -> int | None:
    """The modulus of an X.509 certificate's RSA key (d2i_X509(3), X509_get0_pubkey(3)).

    Kept for the next who asks: OpenSSL 3 takes most of a millisecond to find it.

    Args:
        certificate: DER.

    Returns:
        The modulus, or None where there is no such key, or no certificate.
    """
    library = _libcrypto()
    start = c_char_p(certificate)
    parsed = library.d2i_X509(None, byref(start), len(certificate))
    try:
        key = library.X509_get0_pubkey(parsed) if parsed else None
        if key is None or library.EVP_PKEY_get_base_id(key) not in _RSA_TYPES:
            return None
        return _number(library, key, b"n")
    finally:
        library.X509_free(parsed)
        library.ERR_clear_error()


def _number(library: ctypes.CDLL, key: int, name: bytes) -> int | None:
    """One of a key's numbers (EVP_PKEY_get_bn_param(3), EVP_PKEY-RSA(7))."""
    number = c_void_p()
    if library.EVP_PKEY_get_bn_param(key, name, byref(number)) != 1:
        return None
    try:
        room = ctypes.create_string_buffer((library.BN_num_bits(number) + 7) // 8)
        library.BN_bn2bin(number, room)
        return int.from_bytes(room.raw, "big")
    finally:
        library.BN_free(number)


class RawRsa:
    """One EVP_PKEY and the contexts made of it; any number of threads may use it."""

    def __init__(self, pkcs8: bytes, size: int) -> None:
        """Take a key over.

        Args:
            pkcs8: PrivateKeyInfo or RSAPrivateKey, DER, not encrypted.
            size: the modulus's length in bytes.

        Raises:
            SourceUnusable: libcrypto does not take the key.
        """
        library = _libcrypto()
        start = c_char_p(pkcs8)
        key = library.d2i_AutoPrivateKey(None, byref(start), len(pkcs8))
        if not key:
            library.ERR_clear_error()
            raise SourceUnusable("OpenSSL does not take the private key")
        self._key = key
        self._size = size
        # A context serves one call at a time; deque's append and pop are atomic.
        self._contexts: deque[int] = deque()
        self._finalizer = weakref.finalize(self, _free, library, key, self._contexts)

    def apply(self, block: bytes) -> bytes:
        """RSADP of a block already checked against the modulus; both `size` bytes.

        Raises:
            KeyOperationError: libcrypto refused it.
        """
        library = _libcrypto()
        try:
            context = self._contexts.pop()
        except IndexError:
            context = self._new_context()
        room = ctypes.create_string_buffer(self._size)
        length = c_size_t(self._size)
        done = library.EVP_PKEY_decrypt(context, room, byref(length), block, len(block))
        self._contexts.append(context)
        if done != 1 or length.value != self._size:
            library.ERR_clear_error()
            raise KeyOperationError("OpenSSL refused the RSA operation")
        return room.raw

    def _new_context(self) -> int:
        library = _libcrypto()
        context: int | None = library.EVP_PKEY_CTX_new(self._key, None)
        if (
            context is None
            or library.EVP_PKEY_decrypt_init(context) != 1
            or library.EVP_PKEY_CTX_set_rsa_padding(context, _RSA_NO_PADDING) != 1
        ):
            library.EVP_PKEY_CTX_free(context)
            library.ERR_clear_error()
            raise KeyOperationError("OpenSSL cannot do raw RSA with this key")
        return context


def _free(library: ctypes.CDLL, key: int, contexts: deque[int]) -> None:
    while contexts:
        library.EVP_PKEY_CTX_free(contexts.pop())
    library.EVP_PKEY_free(key)
