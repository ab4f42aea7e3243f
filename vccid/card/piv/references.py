# SPDX-License-Identifier: LGPL-2.1-or-later
"""Key references and reference data (SP 800-73-5 part 1, tables 4 and 5)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

APPLICATION_PIN: Final = 0x80
PUK: Final = 0x81
PAIRING_CODE: Final = 0x98
CARD_MANAGEMENT: Final = 0x9B
SECURE_MESSAGING: Final = 0x04

AUTHENTICATION: Final = 0x9A
SIGNATURE: Final = 0x9C
KEY_MANAGEMENT: Final = 0x9D
CARD_AUTHENTICATION: Final = 0x9E
RETIRED: Final = tuple(range(0x82, 0x96))

#: Every key pair of the card; certificates given go into them in this order.
KEYS: Final = (AUTHENTICATION, SIGNATURE, KEY_MANAGEMENT, CARD_AUTHENTICATION, *RETIRED)

#: Part 2, 3.2.4: an ECDH agreement is for key management keys alone.
AGREEING: Final = frozenset((KEY_MANAGEMENT, *RETIRED))

_NAMES: Final = {
    AUTHENTICATION: "PIV Authentication",
    SIGNATURE: "Digital Signature",
    KEY_MANAGEMENT: "Key Management",
    CARD_AUTHENTICATION: "Card Authentication",
    CARD_MANAGEMENT: "Card Management",
}


class PinPolicy(IntEnum):
    """When a key wants the PIN; the numbers are Yubico's."""

    NEVER = 1
    ONCE = 2
    ALWAYS = 3


class Origin(IntEnum):
    """Where a key came from; the numbers are Yubico's."""

    GENERATED = 1
    IMPORTED = 2


def key_name(reference: int) -> str:
    """What the standard calls a key."""
    if reference in RETIRED:
        return f"Retired Key Management {reference - RETIRED[0] + 1}"
    return _NAMES[reference]


def default_pin_policy(reference: int) -> PinPolicy:
    """Part 1, table 5: PIN Always, Always, or PIN."""
    if reference == SIGNATURE:
        return PinPolicy.ALWAYS
    return PinPolicy.NEVER if reference == CARD_AUTHENTICATION else PinPolicy.ONCE
