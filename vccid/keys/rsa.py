# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every RSA key needs checked before its bare operation, wherever the key lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vccid.errors import KeyOperationError

MIN_BITS: Final = 1024
MAX_BITS: Final = 4096


@dataclass(frozen=True, slots=True)
class Modulus:
    """An RSA modulus n (RFC 8017, 3.1).

    Attributes:
        value: n.
        size: its length in bytes, k.
    """

    value: int
    size: int

    @classmethod
    def of(cls, value: int) -> Modulus:
        """A modulus of any size."""
        return cls(value, (value.bit_length() + 7) // 8)

    @property
    def bits(self) -> int:
        """Its length in bits."""
        return self.value.bit_length()

    @property
    def description(self) -> str:
        """For people."""
        return f"RSA of {self.bits} bits"

    @property
    def encoded(self) -> bytes:
        """Big-endian, `size` bytes."""
        return self.value.to_bytes(self.size, "big")

    def check(self, block: bytes) -> None:
        """Refuse what no module may be given: some end the process on it.

        Raises:
            KeyOperationError: not `size` bytes, or not below n (RFC 8017, 5.1.2 step 1).
        """
        if len(block) != self.size:
            raise KeyOperationError(
                f"the block has {len(block)} bytes where the key takes {self.size}"
            )
        if int.from_bytes(block, "big") >= self.value:
            raise KeyOperationError("the block is not below the key's modulus")


def unpad_signature_block(block: bytes) -> bytes:
    """The DigestInfo or other payload of an EMSA-PKCS1-v1_5 block: 00 01 FF..FF 00 payload.

    Raises:
        KeyOperationError: it is no such block (RFC 8017, 9.2: at least eight FF).
    """
    end = block.find(b"\0", 2)
    if block[:2] == b"\0\1" and end >= 10 and block[2:end].count(0xFF) == end - 2:
        return block[end + 1 :]
    raise KeyOperationError(
        "the token has no raw RSA (CKM_RSA_X_509), and this block is no PKCS #1 v1.5 signature",
        "PSS signatures, OAEP and decryption need a token with CKM_RSA_X_509",
    )
