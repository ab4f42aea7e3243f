# SPDX-License-Identifier: LGPL-2.1-or-later
"""Status words SW1 SW2 (ISO/IEC 7816-4:2020, 5.6), ready to end a response APDU."""

from __future__ import annotations

from typing import Final

SUCCESS: Final = b"\x90\x00"
EXECUTION_ERROR: Final = b"\x64\x00"
VERIFICATION_FAILED: Final = b"\x63\x00"
MEMORY_FAILURE: Final = b"\x65\x81"
WRONG_LENGTH: Final = b"\x67\x00"
CHANNEL_NOT_SUPPORTED: Final = b"\x68\x81"
SECURE_MESSAGING_NOT_SUPPORTED: Final = b"\x68\x82"
CHAINING_NOT_SUPPORTED: Final = b"\x68\x84"
COMMAND_NOT_ALLOWED: Final = b"\x69\x00"
SECURITY_STATUS_NOT_SATISFIED: Final = b"\x69\x82"
AUTHENTICATION_BLOCKED: Final = b"\x69\x83"
DATA_INVALID: Final = b"\x69\x84"
CONDITIONS_NOT_SATISFIED: Final = b"\x69\x85"
SECURE_MESSAGING_MISSING: Final = b"\x69\x87"
SECURE_MESSAGING_INCORRECT: Final = b"\x69\x88"
PARAMETERS_WRONG: Final = b"\x6a\x00"
INCORRECT_DATA: Final = b"\x6a\x80"
FUNCTION_NOT_SUPPORTED: Final = b"\x6a\x81"
NOT_FOUND: Final = b"\x6a\x82"
NOT_ENOUGH_MEMORY: Final = b"\x6a\x84"
INCORRECT_P1_P2: Final = b"\x6a\x86"
REFERENCED_DATA_NOT_FOUND: Final = b"\x6a\x88"
INSTRUCTION_NOT_SUPPORTED: Final = b"\x6d\x00"
CLASS_NOT_SUPPORTED: Final = b"\x6e\x00"
NO_PRECISE_DIAGNOSIS: Final = b"\x6f\x00"

#: 61xx made beforehand: on T=0 most answers are one.
_BYTES_AVAILABLE: Final = tuple(bytes((0x61, count & 0xFF)) for count in range(257))


def bytes_available(count: int) -> bytes:
    """61xx: `count` bytes wait for GET RESPONSE, 1 to 255; 256 stands for more as well."""
    return _BYTES_AVAILABLE[count if count < 256 else 256]


def wrong_le(exact: int) -> bytes:
    """6Cxx: the command's Le should have been `exact` (only its low byte can be said)."""
    return bytes((0x6C, exact & 0xFF))


def tries_left(count: int) -> bytes:
    """63Cx: wrong, or not verified, with `count` tries left (at most 15 can be said)."""
    return bytes((0x63, 0xC0 | min(count, 0x0F)))


def more_data(count: int) -> bytes:
    """63xx of the old CAC's GET CERTIFICATE: `count` more bytes, at least 1, at most 255 said."""
    return bytes((0x63, min(count, 0xFF)))
