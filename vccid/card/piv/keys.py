# SPDX-License-Identifier: LGPL-2.1-or-later
"""Key pairs on the card: those it came with, and those generated or imported later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from vccid.card.piv.algorithms import CURVES, RSA_BITS, Algorithm, algorithm_of
from vccid.card.piv.references import Origin, PinPolicy
from vccid.iso7816 import ber
from vccid.keys.base import PrivateKey, PublicKey
from vccid.keys.ec import point_of
from vccid.keys.file_key import file_key
from vccid.keys.rsa import Modulus

#: Of every RSA key (SP 800-78-5, 3.1).
RSA_EXPONENT = 65537

_TAG_MODULUS, _TAG_EXPONENT, _TAG_POINT = 0x81, 0x82, 0x86

_NIST = {Algorithm.P_256: ec.SECP256R1(), Algorithm.P_384: ec.SECP384R1()}


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key that lives on the card, as it is kept.

    Attributes:
        algorithm: what it is for.
        pkcs8: PrivateKeyInfo, DER, not encrypted.
        origin: generated or imported.
        pin_policy: when it wants the PIN.
        touch_policy: Yubico's number; told, and nothing else.
    """

    algorithm: Algorithm
    pkcs8: bytes
    origin: Origin
    pin_policy: PinPolicy
    touch_policy: int = 1

    def __repr__(self) -> str:
        return f"StoredKey({self.algorithm.name}, {self.origin.name})"


@dataclass(frozen=True, slots=True)
class CardKey:
    """A key ready for use.

    Attributes:
        algorithm: P1 that must be given with it.
        private: the key, wherever it lives.
        public: its public key as GENERATE answers it, without 7F49.
        origin: generated or imported.
        pin_policy: when it wants the PIN.
        touch_policy: Yubico's number.
        source: where it lives, for people.
    """

    algorithm: Algorithm
    private: PrivateKey
    public: bytes
    origin: Origin
    pin_policy: PinPolicy
    touch_policy: int = 1
    source: str = ""


def generate(algorithm: Algorithm) -> bytes:
    """A new private key, PKCS#8. RSA takes up to seconds: call it in a thread."""
    key: Any
    if algorithm in RSA_BITS:
        key = rsa.generate_private_key(RSA_EXPONENT, RSA_BITS[algorithm])
    elif algorithm in _NIST:
        key = ec.generate_private_key(_NIST[algorithm])
    elif algorithm is Algorithm.ED25519:
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = x25519.X25519PrivateKey.generate()
    return _pkcs8(key)


def import_rsa(algorithm: Algorithm, p: bytes, q: bytes) -> bytes:
    """A private key of two primes, PKCS#8; the other parts follow from them.

    Raises:
        ValueError: they make no key of this algorithm.
    """
    prime_p, prime_q = int.from_bytes(p, "big"), int.from_bytes(q, "big")
    modulus = prime_p * prime_q
    if prime_p == prime_q or modulus.bit_length() != RSA_BITS[algorithm]:
        raise ValueError("the primes make no key of this size")
    exponent = pow(RSA_EXPONENT, -1, (prime_p - 1) * (prime_q - 1))
    numbers = rsa.RSAPrivateNumbers(
        prime_p,
        prime_q,
        exponent,
        rsa.rsa_crt_dmp1(exponent, prime_p),
        rsa.rsa_crt_dmq1(exponent, prime_q),
        rsa.rsa_crt_iqmp(prime_p, prime_q),
        rsa.RSAPublicNumbers(RSA_EXPONENT, modulus),
    )
    return _pkcs8(numbers.private_key())


def import_scalar(algorithm: Algorithm, scalar: bytes) -> bytes:
    """A private key on a curve, PKCS#8.

    Raises:
        ValueError: it is none of this curve.
    """
    curve = CURVES[algorithm]
    if len(scalar) != curve.size:
        raise ValueError("the key has not the curve's length")
    if algorithm in _NIST:
        value = int.from_bytes(scalar, "big")
        if not 0 < value < curve.order:  # `cryptography` 38 looks at the lower end only
            raise ValueError("the key is not below the curve's order")
        return _pkcs8(ec.derive_private_key(value, _NIST[algorithm]))
    if algorithm is Algorithm.ED25519:
        return _pkcs8(ed25519.Ed25519PrivateKey.from_private_bytes(scalar))
    return _pkcs8(x25519.X25519PrivateKey.from_private_bytes(scalar))


def ready(stored: StoredKey) -> CardKey:
    """A stored key for use.

    Raises:
        ValueError: it is no key.
    """
    key = load_der_private_key(stored.pkcs8, None)
    private = file_key(key)
    if private is None or algorithm_of(_public(key)) is not stored.algorithm:
        raise ValueError("no key of this algorithm")
    return CardKey(
        stored.algorithm,
        private,
        public_template(key.public_key()),
        stored.origin,
        stored.pin_policy,
        stored.touch_policy,
        "generated on the card" if stored.origin is Origin.GENERATED else "imported",
    )


def _public(key: Any) -> PublicKey:
    """The public half of one of `file_key`'s kinds."""
    public = key.public_key()
    point = point_of(public)
    return Modulus.of(public.public_numbers().n) if point is None else point


def public_template(public: Any) -> bytes:
    """The members of 7F49 (SP 800-73-5 part 2, 3.3.2, tables 31 and 32)."""
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")
        return ber.encode(_TAG_MODULUS, modulus) + ber.encode(_TAG_EXPONENT, exponent)
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    else:
        point = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return ber.encode(_TAG_POINT, point)


def _pkcs8(key: Any) -> bytes:
    encoded: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return encoded
