# SPDX-License-Identifier: LGPL-2.1-or-later
"""Algorithm identifiers (SP 800-78-5, 6.2), and Yubico's where NIST has none."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from vccid.keys.base import PublicKey
from vccid.keys.ec import ED25519, P256, P384, X25519
from vccid.keys.rsa import Modulus

try:  # cryptography 43 moved it, and warns at the old place
    from cryptography.hazmat.decrepit.ciphers.algorithms import (  # type: ignore[import-not-found,unused-ignore]
        TripleDES,
    )
except ImportError:
    from cryptography.hazmat.primitives.ciphers.algorithms import TripleDES


class Algorithm(IntEnum):
    """P1 of GENERAL AUTHENTICATE, and the mechanism of GENERATE ASYMMETRIC KEY PAIR."""

    TDES = 0x03
    RSA_3072 = 0x05
    RSA_1024 = 0x06
    RSA_2048 = 0x07
    AES_128 = 0x08
    AES_192 = 0x0A
    AES_256 = 0x0C
    P_256 = 0x11
    P_384 = 0x14
    RSA_4096 = 0x16
    ED25519 = 0xE0
    X25519 = 0xE1

    @property
    def label(self) -> str:
        """For people."""
        return _LABELS.get(self, self.name.replace("_", "-"))


_LABELS: Final = {Algorithm.TDES: "3DES", Algorithm.ED25519: "Ed25519"}

#: Three-key triple DES under its other name (SP 800-78-5, table 9).
_TDES_ALIAS: Final = 0x00

RSA_BITS: Final = {
    Algorithm.RSA_1024: 1024,
    Algorithm.RSA_2048: 2048,
    Algorithm.RSA_3072: 3072,
    Algorithm.RSA_4096: 4096,
}
CURVES: Final = {
    Algorithm.P_256: P256,
    Algorithm.P_384: P384,
    Algorithm.ED25519: ED25519,
    Algorithm.X25519: X25519,
}
#: Bytes of a management key.
CIPHER_KEYS: Final = {
    Algorithm.TDES: 24,
    Algorithm.AES_128: 16,
    Algorithm.AES_192: 24,
    Algorithm.AES_256: 32,
}

_BY_BITS: Final = {bits: algorithm for algorithm, bits in RSA_BITS.items()}
_BY_CURVE: Final = {curve: algorithm for algorithm, curve in CURVES.items()}


def algorithm_of(public: PublicKey) -> Algorithm | None:
    """A public key's algorithm; None for a size that has no identifier."""
    if isinstance(public, Modulus):
        return _BY_BITS.get(public.bits)
    return _BY_CURVE.get(public.curve)


def asymmetric(identifier: int) -> Algorithm | None:
    """The algorithm of key pairs with this identifier."""
    return _known(identifier, (*RSA_BITS, *CURVES))


def symmetric(identifier: int) -> Algorithm | None:
    """The block cipher with this identifier."""
    if identifier == _TDES_ALIAS:
        return Algorithm.TDES
    return _known(identifier, tuple(CIPHER_KEYS))


def _known(identifier: int, among: tuple[Algorithm, ...]) -> Algorithm | None:
    return Algorithm(identifier) if identifier in among else None


class BlockCipher:
    """One block under a management key: all that challenge and response need.

    Attributes:
        size: bytes of a block.
    """

    def __init__(self, algorithm: Algorithm, key: bytes) -> None:
        """`key` has the length `CIPHER_KEYS` says."""
        cipher = TripleDES(key) if algorithm is Algorithm.TDES else AES(key)
        self.size = cipher.block_size // 8
        self._cipher = Cipher(cipher, ECB())

    def encrypt(self, block: bytes) -> bytes:
        """One block."""
        return _one(self._cipher.encryptor(), block)

    def random(self) -> bytes:
        """A challenge or witness."""
        return os.urandom(self.size)


def _one(context: CipherContext, block: bytes) -> bytes:
    return context.update(block) + context.finalize()
