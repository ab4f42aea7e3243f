# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cipher suites of secure messaging (SP 800-73-5 part 2, 4.1.6, table 14)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

#: Bytes of an AES block, of a cryptogram, and of what of a MAC goes over the line.
BLOCK: Final = 16
MAC_SIZE: Final = 8


@dataclass(frozen=True, slots=True)
class Suite:
    """One cipher suite.

    Attributes:
        identifier: P1 of the key establishment, and 80 of the application property template.
        name: as users call it.
        curve: of key 04 and of the host's ephemeral key.
        curve_oid: its object identifier, DER without tag and length.
        signature_oid: of ECDSA with the suite's hash, likewise.
        hash: of the key derivation and of a CVC's signature.
        key_size: bytes of each session key.
        nonce_size: bytes of N_ICC.
        algorithm_id: AES' in OtherInfo.
    """

    identifier: int
    name: str
    curve: ec.EllipticCurve
    curve_oid: bytes
    signature_oid: bytes
    hash: hashes.SHA256 | hashes.SHA384
    key_size: int
    nonce_size: int
    algorithm_id: int

    @property
    def point_size(self) -> int:
        """Bytes of an uncompressed point."""
        return 1 + 2 * ((self.curve.key_size + 7) // 8)

    def derive(self, secret: bytes, other_info: bytes) -> bytes:
        """The four session keys, one after the other: SP 800-56A's one-step KDF (4.1.6)."""
        material, counter = b"", 1
        while len(material) < 4 * self.key_size:
            block = counter.to_bytes(4, "big") + secret + other_info
            material += hashlib.new(self.hash.name, block).digest()
            counter += 1
        return material[: 4 * self.key_size]


CS2: Final = Suite(
    0x27,
    "cs2",
    ec.SECP256R1(),
    bytes.fromhex("2A 86 48 CE 3D 03 01 07"),
    bytes.fromhex("2A 86 48 CE 3D 04 03 02"),
    hashes.SHA256(),
    key_size=16,
    nonce_size=16,
    algorithm_id=0x09,
)
CS7: Final = Suite(
    0x2E,
    "cs7",
    ec.SECP384R1(),
    bytes.fromhex("2B 81 04 00 22"),
    bytes.fromhex("2A 86 48 CE 3D 04 03 03"),
    hashes.SHA384(),
    key_size=32,
    nonce_size=24,
    algorithm_id=0x0D,
)

#: By name.
SUITES: Final = {suite.name: suite for suite in (CS2, CS7)}


def encrypt(key: bytes, iv: bytes, padded: bytes) -> bytes:
    """AES-CBC of whole blocks."""
    context = Cipher(AES(key), modes.CBC(iv)).encryptor()
    return context.update(padded) + context.finalize()


def decrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """The inverse."""
    context = Cipher(AES(key), modes.CBC(iv)).decryptor()
    return context.update(data) + context.finalize()


def one_block(key: bytes, block: bytes) -> bytes:
    """AES of one block."""
    context = Cipher(AES(key), modes.ECB()).encryptor()
    return context.update(block) + context.finalize()


def cmac(key: bytes, data: bytes) -> bytes:
    """AES-CMAC (SP 800-38B), 16 bytes."""
    context = CMAC(AES(key))
    context.update(data)
    return context.finalize()
