# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card manager's commands and status words (GlobalPlatform Card Specification 2.3, 11)."""

from __future__ import annotations

from typing import Final

from vccid.trace.words import Application, Instruction, Parameter

GLOBAL_PLATFORM: Final = Application(
    "GlobalPlatform",
    (bytes.fromhex("A000000003"), bytes.fromhex("A000000151")),
    {
        0x50: Instruction("INITIALIZE UPDATE", Parameter("key version")),
        0xD8: Instruction("PUT KEY", secrets=("key",)),
        0xE2: Instruction("STORE DATA", secrets=("data",)),
        0xE4: Instruction("DELETE"),
        0xE6: Instruction("INSTALL", secrets=("install parameters",)),
        0xE8: Instruction("LOAD"),
        0xF0: Instruction("SET STATUS"),
        0xF2: Instruction("GET STATUS"),
    },
    {
        0x6200: "logical channel already closed",
        0x6310: "more data available",
        0x6400: "no specific diagnosis",
        0x6985: "conditions of use not satisfied",
        0x6A84: "not enough memory space",
        0x9484: "algorithm not supported",
        0x9485: "invalid key check value",
    },
)
