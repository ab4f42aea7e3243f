# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interindustry commands and status words (ISO/IEC 7816-4:2020, 5.5, 5.6, 11; parts 8, 9)."""

from __future__ import annotations

from typing import Final

from vccid.trace.words import Application, Field, Instruction, Parameter

_REFERENCE: Final = Parameter("reference", {0x00: ""})
_TAG: Final = Parameter("tag")

#: SELECT's P1 (11.2.2), and what is selected.
SELECT_BY: Final = {
    0x00: "by file identifier",
    0x01: "child DF",
    0x02: "EF under the current DF",
    0x03: "parent DF",
    0x04: "by name",
    0x08: "by path from the MF",
    0x09: "by path from the current DF",
}
SELECTED: Final = (Field(""),)
_VERIFY: Final = Instruction(
    "VERIFY", Parameter("P1", {0x00: "", 0xFF: "log out"}), _REFERENCE, secrets=("PIN",)
)
_CHANGE_REFERENCE_DATA: Final = Instruction(
    "CHANGE REFERENCE DATA", p2=_REFERENCE, secrets=("old PIN", "new PIN")
)
_RESET_RETRY_COUNTER: Final = Instruction(
    "RESET RETRY COUNTER", p2=_REFERENCE, secrets=("PUK", "new PIN")
)
_GENERATE: Final = Instruction("GENERATE ASYMMETRIC KEY PAIR", p2=Parameter("key"))
_GENERAL_AUTHENTICATE: Final = Instruction(
    "GENERAL AUTHENTICATE", Parameter("algorithm"), Parameter("key"), secret_answer=True
)
_READ_BINARY: Final = Instruction("READ BINARY", p1_p2=Parameter("offset"))
_READ_RECORD: Final = Instruction("READ RECORD", Parameter("record"))
# What is enveloped may be a VERIFY.
_ENVELOPE: Final = Instruction("ENVELOPE", secrets=("command",), secret_answer=True)
# What is put may be a key, or the code a card is paired by.
_PUT_DATA: Final = Instruction("PUT DATA", p1_p2=_TAG, secrets=("data object",))

INTERINDUSTRY: Final = Application(
    "ISO/IEC 7816",
    (),
    {
        0x04: Instruction("DEACTIVATE FILE"),
        0x0C: Instruction("ERASE RECORD"),
        0x0E: Instruction("ERASE BINARY", p1_p2=Parameter("offset")),
        0x20: _VERIFY,
        0x21: _VERIFY,
        0x22: Instruction("MANAGE SECURITY ENVIRONMENT"),
        0x24: _CHANGE_REFERENCE_DATA,
        0x25: _CHANGE_REFERENCE_DATA,
        0x26: Instruction("DISABLE VERIFICATION REQUIREMENT", p2=_REFERENCE, secrets=("PIN",)),
        0x28: Instruction("ENABLE VERIFICATION REQUIREMENT", p2=_REFERENCE, secrets=("PIN",)),
        0x2A: Instruction("PERFORM SECURITY OPERATION", p1_p2=_TAG, secret_answer=True),
        0x2C: _RESET_RETRY_COUNTER,
        0x2D: _RESET_RETRY_COUNTER,
        0x44: Instruction("ACTIVATE FILE"),
        0x46: _GENERATE,
        0x47: _GENERATE,
        0x70: Instruction("MANAGE CHANNEL", Parameter("P1", {0: "open", 0x80: "close"})),
        0x82: Instruction("EXTERNAL AUTHENTICATE", p2=Parameter("key", {0x00: ""})),
        0x84: Instruction("GET CHALLENGE"),
        0x86: _GENERAL_AUTHENTICATE,
        0x87: _GENERAL_AUTHENTICATE,
        0x88: Instruction("INTERNAL AUTHENTICATE", Parameter("algorithm"), Parameter("key")),
        0xA2: Instruction("SEARCH RECORD"),
        0xA4: Instruction("SELECT", Parameter("by", SELECT_BY), fields=SELECTED),
        0xB0: _READ_BINARY,
        0xB1: _READ_BINARY,
        0xB2: _READ_RECORD,
        0xB3: _READ_RECORD,
        # The rest of an answer is as secret as its beginning, which is not known here.
        0xC0: Instruction("GET RESPONSE", secret_answer=True),
        0xC2: _ENVELOPE,
        0xC3: _ENVELOPE,
        0xCA: Instruction("GET DATA", p1_p2=_TAG),
        0xCB: Instruction("GET DATA", p1_p2=Parameter("file"), fields=(Field("tag list"),)),
        0xD0: Instruction("WRITE BINARY", p1_p2=Parameter("offset")),
        0xD2: Instruction("WRITE RECORD"),
        0xD6: Instruction("UPDATE BINARY", p1_p2=Parameter("offset")),
        0xDA: _PUT_DATA,
        0xDB: _PUT_DATA,
        0xDC: Instruction("UPDATE RECORD"),
        0xE0: Instruction("CREATE FILE"),
        0xE2: Instruction("APPEND RECORD"),
        0xE4: Instruction("DELETE FILE"),
        0xE6: Instruction("TERMINATE DF"),
        0xE8: Instruction("TERMINATE EF"),
        0xFE: Instruction("TERMINATE CARD USAGE"),
    },
    {
        0x9000: "success",
        0x6200: "warning, state unchanged",
        0x6281: "part of the data may be corrupted",
        0x6282: "end of file before Le bytes",
        0x6283: "selected file deactivated",
        0x6284: "file control information malformed",
        0x6285: "selected file terminated",
        0x6300: "verification failed",
        0x6381: "file filled up",
        0x6400: "execution error, state unchanged",
        0x6401: "immediate response required",
        0x6500: "execution error, state changed",
        0x6581: "memory failure",
        0x6600: "security issue",
        0x6700: "wrong length",
        0x6800: "functions of the class not supported",
        0x6881: "logical channel not supported",
        0x6882: "secure messaging not supported",
        0x6883: "last command of the chain expected",
        0x6884: "command chaining not supported",
        0x6900: "command not allowed",
        0x6981: "command incompatible with file structure",
        0x6982: "security status not satisfied",
        0x6983: "authentication method blocked",
        0x6984: "reference data not usable",
        0x6985: "conditions of use not satisfied",
        0x6986: "command not allowed, no current EF",
        0x6987: "secure messaging data objects missing",
        0x6988: "secure messaging data objects incorrect",
        0x6A00: "wrong parameters",
        0x6A80: "incorrect parameters in the data field",
        0x6A81: "function not supported",
        0x6A82: "file or application not found",
        0x6A83: "record not found",
        0x6A84: "not enough memory space in the file",
        0x6A85: "Lc inconsistent with TLV structure",
        0x6A86: "incorrect P1-P2",
        0x6A87: "Lc inconsistent with P1-P2",
        0x6A88: "referenced data not found",
        0x6A89: "file already exists",
        0x6A8A: "DF name already exists",
        0x6B00: "wrong P1-P2",
        0x6D00: "instruction not supported",
        0x6E00: "class not supported",
        0x6F00: "no precise diagnosis",
    },
)
