# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one place where what `cryptography` raises becomes an error of ours.

Which exceptions its parsers raise is no interface: ValueError, TypeError, UnsupportedAlgorithm,
InternalError, and of its Rust half PanicException, which is no Exception at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from vccid.errors import SourceUnusable

T = TypeVar("T")

#: What says nothing about the input.
_OURS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)


class NotTaken(SourceUnusable):
    """A parser refused what it was given."""


def take(parse: Callable[[], T]) -> T:
    """What `parse` returns.

    Raises:
        NotTaken: it raised anything at all; the input is in neither the message nor the chain.
    """
    try:
        return parse()
    except _OURS:
        raise
    except BaseException as error:
        reason = type(error).__name__
    raise NotTaken(f"it is damaged or of an unknown kind ({reason})")


def public_key_of(info: bytes) -> object | None:
    """A SubjectPublicKeyInfo (DER) as one of `cryptography`'s keys; None where it takes it not."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        return take(lambda: load_der_public_key(info))
    except NotTaken:
        return None


def private_key_of(pkcs8: bytes) -> object | None:
    """A PrivateKeyInfo or RSAPrivateKey (DER) likewise."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        return take(lambda: load_der_private_key(pkcs8, None))
    except NotTaken:
        return None


def openssh_key_of(text: bytes, password: bytes | None) -> object:
    """A key as ssh-keygen writes it (PROTOCOL.key).

    Raises:
        NotTaken: it is encrypted and cannot be opened so, or is none.
    """
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    return take(lambda: load_ssh_private_key(text, password))
