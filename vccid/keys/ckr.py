# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a PKCS#11 module may answer, and what follows from it: one table for all of it.

Names and numbers: PKCS #11 base specification 2.40, 5.1, and its header file. A refusal to judge
a PIN is no judgement of it: whatever is not WRONG_PIN says nothing about the PIN.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class Consequence(enum.Enum):
    """What follows from an answer."""

    #: The PIN is not the right one: a try is spent, and it is not offered again.
    WRONG_PIN = enum.auto()
    #: No PIN is looked at until the token is unblocked: no try is spent, nothing remembered.
    LOCKED = enum.auto()
    #: The token, its session or an object is not there any more: it is looked up once again.
    GONE = enum.auto()
    #: The login ended, or another user's is in the way: the PIN is to be verified again.
    NO_LOGIN = enum.auto()
    #: What the host sent does not fit the key.
    BAD_DATA = enum.auto()
    #: The operation failed, and may well do so again.
    FAILED = enum.auto()


class Answer(NamedTuple):
    """A return value.

    Attributes:
        name: its name without CKR_.
        consequence: what follows from it.
    """

    name: str
    consequence: Consequence


_WRONG_PIN, _LOCKED, _GONE, _NO_LOGIN, _BAD_DATA, _FAILED = Consequence

ANSWERS: Final[dict[int, Answer]] = {
    0x01: Answer("CANCEL", _FAILED),
    0x02: Answer("HOST_MEMORY", _FAILED),
    0x03: Answer("SLOT_ID_INVALID", _GONE),
    # Modules say this of a reader that was unplugged.
    0x05: Answer("GENERAL_ERROR", _GONE),
    0x06: Answer("FUNCTION_FAILED", _FAILED),
    0x07: Answer("ARGUMENTS_BAD", _FAILED),
    0x08: Answer("NO_EVENT", _FAILED),
    0x09: Answer("NEED_TO_CREATE_THREADS", _FAILED),
    0x0A: Answer("CANT_LOCK", _FAILED),
    0x10: Answer("ATTRIBUTE_READ_ONLY", _FAILED),
    0x11: Answer("ATTRIBUTE_SENSITIVE", _FAILED),
    0x12: Answer("ATTRIBUTE_TYPE_INVALID", _FAILED),
    0x13: Answer("ATTRIBUTE_VALUE_INVALID", _FAILED),
    0x1B: Answer("ACTION_PROHIBITED", _FAILED),
    0x20: Answer("DATA_INVALID", _BAD_DATA),
    0x21: Answer("DATA_LEN_RANGE", _BAD_DATA),
    0x30: Answer("DEVICE_ERROR", _GONE),
    0x31: Answer("DEVICE_MEMORY", _FAILED),
    0x32: Answer("DEVICE_REMOVED", _GONE),
    0x40: Answer("ENCRYPTED_DATA_INVALID", _BAD_DATA),
    0x41: Answer("ENCRYPTED_DATA_LEN_RANGE", _BAD_DATA),
    # Somebody pressed the cancel key of a PIN pad.
    0x50: Answer("FUNCTION_CANCELED", _FAILED),
    0x51: Answer("FUNCTION_NOT_PARALLEL", _FAILED),
    0x54: Answer("FUNCTION_NOT_SUPPORTED", _FAILED),
    0x60: Answer("KEY_HANDLE_INVALID", _GONE),
    0x62: Answer("KEY_SIZE_RANGE", _FAILED),
    0x63: Answer("KEY_TYPE_INCONSISTENT", _FAILED),
    0x64: Answer("KEY_NOT_NEEDED", _FAILED),
    0x65: Answer("KEY_CHANGED", _FAILED),
    0x66: Answer("KEY_NEEDED", _FAILED),
    0x67: Answer("KEY_INDIGESTIBLE", _FAILED),
    0x68: Answer("KEY_FUNCTION_NOT_PERMITTED", _FAILED),
    0x69: Answer("KEY_NOT_WRAPPABLE", _FAILED),
    0x6A: Answer("KEY_UNEXTRACTABLE", _FAILED),
    0x70: Answer("MECHANISM_INVALID", _FAILED),
    0x71: Answer("MECHANISM_PARAM_INVALID", _FAILED),
    0x82: Answer("OBJECT_HANDLE_INVALID", _GONE),
    # A session that was left in the middle: a new one has nothing under way.
    0x90: Answer("OPERATION_ACTIVE", _FAILED),
    0x91: Answer("OPERATION_NOT_INITIALIZED", _FAILED),
    0xA0: Answer("PIN_INCORRECT", _WRONG_PIN),
    # Its characters, or its length, are none the token's PIN can have: so it is not that.
    0xA1: Answer("PIN_INVALID", _WRONG_PIN),
    0xA2: Answer("PIN_LEN_RANGE", _WRONG_PIN),
    # It may be right, and serves for nothing but C_SetPIN.
    0xA3: Answer("PIN_EXPIRED", _FAILED),
    0xA4: Answer("PIN_LOCKED", _LOCKED),
    0xB0: Answer("SESSION_CLOSED", _GONE),
    0xB1: Answer("SESSION_COUNT", _FAILED),
    0xB3: Answer("SESSION_HANDLE_INVALID", _GONE),
    0xB4: Answer("SESSION_PARALLEL_NOT_SUPPORTED", _FAILED),
    0xB5: Answer("SESSION_READ_ONLY", _FAILED),
    0xB6: Answer("SESSION_EXISTS", _FAILED),
    0xB7: Answer("SESSION_READ_ONLY_EXISTS", _FAILED),
    0xB8: Answer("SESSION_READ_WRITE_SO_EXISTS", _FAILED),
    0xC0: Answer("SIGNATURE_INVALID", _FAILED),
    0xC1: Answer("SIGNATURE_LEN_RANGE", _FAILED),
    0xD0: Answer("TEMPLATE_INCOMPLETE", _FAILED),
    0xD1: Answer("TEMPLATE_INCONSISTENT", _FAILED),
    0xE0: Answer("TOKEN_NOT_PRESENT", _GONE),
    0xE1: Answer("TOKEN_NOT_RECOGNIZED", _GONE),
    0xE2: Answer("TOKEN_WRITE_PROTECTED", _FAILED),
    0xF0: Answer("UNWRAPPING_KEY_HANDLE_INVALID", _FAILED),
    0xF1: Answer("UNWRAPPING_KEY_SIZE_RANGE", _FAILED),
    0xF2: Answer("UNWRAPPING_KEY_TYPE_INCONSISTENT", _FAILED),
    0x100: Answer("USER_ALREADY_LOGGED_IN", _FAILED),
    0x101: Answer("USER_NOT_LOGGED_IN", _NO_LOGIN),
    0x102: Answer("USER_PIN_NOT_INITIALIZED", _FAILED),
    0x103: Answer("USER_TYPE_INVALID", _FAILED),
    0x104: Answer("USER_ANOTHER_ALREADY_LOGGED_IN", _NO_LOGIN),
    0x105: Answer("USER_TOO_MANY_TYPES", _FAILED),
    0x110: Answer("WRAPPED_KEY_INVALID", _FAILED),
    0x112: Answer("WRAPPED_KEY_LEN_RANGE", _FAILED),
    0x113: Answer("WRAPPING_KEY_HANDLE_INVALID", _FAILED),
    0x114: Answer("WRAPPING_KEY_SIZE_RANGE", _FAILED),
    0x115: Answer("WRAPPING_KEY_TYPE_INCONSISTENT", _FAILED),
    0x120: Answer("RANDOM_SEED_NOT_SUPPORTED", _FAILED),
    0x121: Answer("RANDOM_NO_RNG", _FAILED),
    0x130: Answer("DOMAIN_PARAMS_INVALID", _FAILED),
    0x140: Answer("CURVE_NOT_SUPPORTED", _FAILED),
    0x150: Answer("BUFFER_TOO_SMALL", _FAILED),
    0x160: Answer("SAVED_STATE_INVALID", _FAILED),
    0x170: Answer("INFORMATION_SENSITIVE", _FAILED),
    0x180: Answer("STATE_UNSAVEABLE", _FAILED),
    # Its process forked, or somebody finalized it under us.
    0x190: Answer("CRYPTOKI_NOT_INITIALIZED", _GONE),
    0x191: Answer("CRYPTOKI_ALREADY_INITIALIZED", _FAILED),
    0x1A0: Answer("MUTEX_BAD", _FAILED),
    0x1A1: Answer("MUTEX_NOT_LOCKED", _FAILED),
    0x1B0: Answer("NEW_PIN_MODE", _FAILED),
    0x1B1: Answer("NEXT_OTP", _FAILED),
    0x1B5: Answer("EXCEEDED_MAX_ITERATIONS", _FAILED),
    0x1B6: Answer("FIPS_SELF_TEST_FAILED", _FAILED),
    0x1B7: Answer("LIBRARY_LOAD_FAILED", _FAILED),
    0x1B8: Answer("PIN_TOO_WEAK", _FAILED),
    0x1B9: Answer("PUBLIC_KEY_INVALID", _FAILED),
    0x200: Answer("FUNCTION_REJECTED", _FAILED),
}


def answer(rv: int) -> Answer:
    """What a CK_RV means; a vendor's own (CKR_VENDOR_DEFINED), and any other, is a failure."""
    return ANSWERS.get(rv, Answer("error", Consequence.FAILED))


def consequence(rv: int) -> Consequence:
    """What follows from a CK_RV."""
    return answer(rv).consequence
