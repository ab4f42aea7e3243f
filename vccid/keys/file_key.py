# SPDX-License-Identifier: LGPL-2.1-or-later
"""Private keys held in memory: RSA by libcrypto, those on curves by `cryptography`."""

from __future__ import annotations

import math
import time
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from vccid.errors import KeyOperationError
from vccid.keys.base import EcPrivateKey, PrivateKey, RsaPrivateKey
from vccid.keys.ec import ED25519, NIST_CURVES, P256, P384, X25519, Curve, fit_digest, peer_key
from vccid.keys.libcrypto import RawRsa, wipe
from vccid.keys.rsa import Modulus

#: `cryptography` wants a hash function as long as the digest it is given.
_DIGESTS: Final = {P256.size: hashes.SHA256(), P384.size: hashes.SHA384()}

#: Seconds for which everybody else may be kept waiting.
_QUICK: Final = 0.001


class RsaFileKey(RsaPrivateKey):
    """An RSA key held in memory by libcrypto."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self.modulus = Modulus.of(key.private_numbers().public_numbers.n)
        pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        try:
            self._rsa = RawRsa(pkcs8, self.modulus.size)
        finally:
            wipe(pkcs8)
        #: of processor time, that the last operation took
        self._seconds = math.inf

    @property
    def size_bits(self) -> int:
        return self.modulus.bits

    @property
    def is_quick(self) -> bool:
        return self._seconds <= _QUICK

    def raw(self, block: bytes) -> bytes:
        self.modulus.check(block)
        begin = time.thread_time()
        result = self._rsa.apply(block)
        self._seconds = time.thread_time() - begin
        return result


class NistFileKey(EcPrivateKey):
    """A key of ECDSA and ECDH."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Raises KeyError for a curve that is not one of `NIST_CURVES`."""
        self._key = key
        self._curve = NIST_CURVES[key.curve.name]
        self._algorithm = ec.ECDSA(Prehashed(_DIGESTS[self._curve.size]))

    @property
    def curve(self) -> Curve:
        return self._curve

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(fit_digest(data, self._curve), self._algorithm)

    def derive(self, peer: bytes) -> bytes:
        return self._key.exchange(ec.ECDH(), peer_key(self._curve, peer))


class Ed25519FileKey(EcPrivateKey):
    """A key of Ed25519 (RFC 8032)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def curve(self) -> Curve:
        return ED25519

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def derive(self, peer: bytes) -> bytes:
        raise KeyOperationError("an Ed25519 key signs and agrees on nothing")


class X25519FileKey(EcPrivateKey):
    """A key of X25519 (RFC 7748)."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    @property
    def curve(self) -> Curve:
        return X25519

    def sign(self, data: bytes) -> bytes:
        raise KeyOperationError("an X25519 key signs nothing")

    def derive(self, peer: bytes) -> bytes:
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:  # not 32 bytes, or a point of small order (RFC 7748, 6.1)
            raise KeyOperationError("the point is not one of x25519") from None


def file_key(key: object) -> PrivateKey | None:
    """One of `cryptography`'s private keys as ours; None for a kind no card has."""
    if isinstance(key, RSAPrivateKey):
        return RsaFileKey(key)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in NIST_CURVES:
        return NistFileKey(key)
    if isinstance(key, Ed25519PrivateKey):
        return Ed25519FileKey(key)
    if isinstance(key, X25519PrivateKey):
        return X25519FileKey(key)
    return None
