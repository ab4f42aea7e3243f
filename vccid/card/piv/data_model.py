# SPDX-License-Identifier: LGPL-2.1-or-later
"""The data objects: tags, container ids, read rules (SP 800-73-5 part 1, 4 and appendix A)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vccid.card.piv.references import (
    AUTHENTICATION,
    CARD_AUTHENTICATION,
    KEY_MANAGEMENT,
    RETIRED,
    SIGNATURE,
)

AID: Final = bytes.fromhex("A0 00 00 03 08 00 00 10 00 01 00")

#: The shortest name that selects: the RID, as Yubico's tools send; the standard's are 9 and 11.
SHORTEST_AID: Final = 5

#: Members of what SELECT answers (part 2, 3.1.1): the application's AID, and who allots its tags.
_PROPERTIES: Final = bytes.fromhex("4F 0B") + AID + bytes.fromhex("79 07 4F 05 A0 00 00 03 08")


def application_properties(suite: int | None = None) -> bytes:
    """What SELECT answers (part 2, 3.1.1).

    Args:
        suite: the cipher suite of secure messaging; None for a card without.
    """
    members = _PROPERTIES
    if suite is not None:
        members += bytes((0xAC, 6, 0x80, 1, suite, 0x06, 1, 0))
    return bytes((0x61, len(members))) + members


CARD_CAPABILITY: Final = 0x5FC107
CHUID: Final = 0x5FC102
FINGERPRINTS: Final = 0x5FC103
SECURITY_OBJECT: Final = 0x5FC106
FACIAL_IMAGE: Final = 0x5FC108
PRINTED_INFORMATION: Final = 0x5FC109
DISCOVERY: Final = 0x7E
KEY_HISTORY: Final = 0x5FC10C
IRIS_IMAGES: Final = 0x5FC121
BIOMETRIC_GROUP: Final = 0x7F61
SM_SIGNER: Final = 0x5FC122
PAIRING_CODE: Final = 0x5FC123
#: Yubico's, beside the standard's: the certificate of the attestation key.
ATTESTATION_CERTIFICATE: Final = 0x5FFF01

CERTIFICATES: Final = {
    AUTHENTICATION: 0x5FC105,
    SIGNATURE: 0x5FC10A,
    KEY_MANAGEMENT: 0x5FC10B,
    CARD_AUTHENTICATION: 0x5FC101,
    **{reference: 0x5FC10D + number for number, reference in enumerate(RETIRED)},
}

#: Objects that are their own tag; all others come in a 53 (part 2, 3.1.2).
BARE: Final = frozenset((DISCOVERY, BIOMETRIC_GROUP))
DATA: Final = 0x53

#: Read after the PIN alone (part 1, table 2).
PIN_TO_READ: Final = frozenset(
    (FINGERPRINTS, FACIAL_IMAGE, IRIS_IMAGES, PRINTED_INFORMATION, PAIRING_CODE)
)

#: What one object and all of them may have, in bytes.
MAX_OBJECT: Final = 32_768
MAX_OBJECTS: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class DataObject:
    """One of the standard's objects.

    Attributes:
        container: container identifier (appendix A, table 8), as the security object names it.
        name: what the standard calls it.
        file: the name `vccidctl card export` gives its file.
    """

    container: int
    name: str
    file: str


OBJECTS: Final = {
    CARD_CAPABILITY: DataObject(0xDB00, "Card Capability Container", "ccc"),
    CHUID: DataObject(0x3000, "Card Holder Unique Identifier", "chuid"),
    CERTIFICATES[AUTHENTICATION]: DataObject(
        0x0101, "X.509 Certificate for PIV Authentication", "9a"
    ),
    FINGERPRINTS: DataObject(0x6010, "Cardholder Fingerprints", "fingerprints"),
    SECURITY_OBJECT: DataObject(0x9000, "Security Object", "security-object"),
    FACIAL_IMAGE: DataObject(0x6030, "Cardholder Facial Image", "facial-image"),
    CERTIFICATES[CARD_AUTHENTICATION]: DataObject(
        0x0500, "X.509 Certificate for Card Authentication", "9e"
    ),
    CERTIFICATES[SIGNATURE]: DataObject(0x0100, "X.509 Certificate for Digital Signature", "9c"),
    CERTIFICATES[KEY_MANAGEMENT]: DataObject(0x0102, "X.509 Certificate for Key Management", "9d"),
    PRINTED_INFORMATION: DataObject(0x3001, "Printed Information", "printed-information"),
    DISCOVERY: DataObject(0x6050, "Discovery Object", "discovery"),
    KEY_HISTORY: DataObject(0x6060, "Key History Object", "key-history"),
    **{
        CERTIFICATES[reference]: DataObject(
            0x1001 + number,
            f"Retired X.509 Certificate for Key Management {number + 1}",
            f"{reference:02x}",
        )
        for number, reference in enumerate(RETIRED)
    },
    IRIS_IMAGES: DataObject(0x1015, "Cardholder Iris Images", "iris-images"),
    BIOMETRIC_GROUP: DataObject(
        0x1016, "Biometric Information Templates Group Template", "biometric-group"
    ),
    SM_SIGNER: DataObject(0x1017, "Secure Messaging Certificate Signer", "sm-signer"),
    PAIRING_CODE: DataObject(0x1018, "Pairing Code Reference Data Container", "pairing-code"),
}


def is_storable(tag: int) -> bool:
    """Whether GET DATA and PUT DATA know a tag: the standard's, and any other 5Fxxxx."""
    return tag in BARE or tag >> 16 == 0x5F
