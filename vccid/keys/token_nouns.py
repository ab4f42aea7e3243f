# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a token has, in words that the daemon and the process of its module share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyClue:
    """What is known of a private key before it is found.

    Attributes:
        name: its certificate's, for messages.
        id: the certificate's CKA_ID.
        public: the modulus, or the point, uncompressed.
        oid: CKA_EC_PARAMS; b"" of an RSA key.
    """

    name: str
    id: bytes
    public: bytes
    oid: bytes = b""


@dataclass(frozen=True, slots=True)
class CertificateObject:
    """A certificate as the token holds it: CKA_LABEL, CKA_ID and CKA_VALUE (DER)."""

    label: str
    id: bytes
    der: bytes


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """A token and where it is, in CK_TOKEN_INFO's and CK_SLOT_INFO's words.

    Attributes:
        slot: the slot's number.
        description, slot_manufacturer: the slot's; OpenSC's description is the PC/SC reader's name.
        label, manufacturer, serial, model: the token's.
    """

    slot: int
    description: str
    slot_manufacturer: str
    label: str
    manufacturer: str
    serial: str
    model: str

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What tells it from another token."""
        return self.label, self.manufacturer, self.serial, self.model
