# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a class byte asks for: by the standard, and as libcacard has it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final


class ClassKind(IntEnum):
    """What a card makes of a class byte."""

    INTERINDUSTRY = 0  # a command, or a part of one, on the basic channel and in plain
    PROPRIETARY = 1  # the same where an application says so; its low bits have no meaning here
    SECURE = 2  # secure messaging
    CHANNEL = 3  # another logical channel
    RESERVED = 4


#: The kind of each class byte, 00 to FF.
ClassKinds = Sequence[ClassKind]

# Bits of the first interindustry classes (ISO/IEC 7816-4:2020, 5.4.1, table 2).
NOT_THE_LAST: Final = 0x10
SECURE_MESSAGING: Final = 0x0C
_CHANNEL: Final = 0x03

#: Secure messaging in the further interindustry classes, 40 to 7F (table 3).
_FURTHER_SECURE_MESSAGING: Final = 0x20


def _by_standard(cla: int) -> ClassKind:
    if cla < 0x20:
        if cla & _CHANNEL:
            return ClassKind.CHANNEL
        return ClassKind.SECURE if cla & SECURE_MESSAGING else ClassKind.INTERINDUSTRY
    if 0x40 <= cla <= 0x7F:  # channels from 4 on
        return ClassKind.CHANNEL
    # 20 to 3F are for future use, FF is PPS and no class.
    return ClassKind.PROPRIETARY if 0x80 <= cla <= 0xFE else ClassKind.RESERVED


def _as_libcacard(cla: int) -> ClassKind:
    """libcacard's classes, but for the bits it passes over in a command an applet takes.

    What was to be secured would be answered in plain, and a command for channel 2 with what is
    selected on channel 0.
    """
    if 0x40 <= cla <= 0x7F:
        return ClassKind.SECURE if cla & _FURTHER_SECURE_MESSAGING else ClassKind.CHANNEL
    # GSC-IS 2.1, 5.3.3 has 80, hosts send 00 as well, and libcacard takes A0 for the same.
    if cla & 0xF0 in (0x00, 0x10, 0x80, 0x90, 0xA0):
        if cla & SECURE_MESSAGING:
            return ClassKind.SECURE
        return ClassKind.CHANNEL if cla & _CHANNEL else ClassKind.INTERINDUSTRY
    return ClassKind.PROPRIETARY if cla & 0xF0 in (0xB0, 0xC0) else ClassKind.RESERVED


BY_STANDARD: Final[ClassKinds] = tuple([_by_standard(cla) for cla in range(256)])
AS_LIBCACARD: Final[ClassKinds] = tuple([_as_libcacard(cla) for cla in range(256)])
