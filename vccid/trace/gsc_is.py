# SPDX-License-Identifier: LGPL-2.1-or-later
"""The CAC's commands (GSC-IS 2.1, 5.3.3 and 5.3.4; the first CAC's GET CERTIFICATE)."""

from __future__ import annotations

from typing import Final

from vccid.trace.interindustry import SELECT_BY, SELECTED
from vccid.trace.words import Application, Field, Instruction, Parameter

INS_GET_CERTIFICATE: Final = 0x36

_OFFSET: Final = Parameter("offset")

GSC_IS: Final = Application(
    "GSC-IS",
    # The Department of Defense's applets, and those of GSC-IS itself.
    (bytes.fromhex("A000000079"), bytes.fromhex("A000000116")),
    {
        INS_GET_CERTIFICATE: Instruction("GET CERTIFICATE"),
        # What is decrypted is a message's key.
        0x42: Instruction(
            "SIGN/DECRYPT", Parameter("P1", {0x00: "", 0x80: "more blocks"}), secret_answer=True
        ),
        0x4C: Instruction("GET ACR", Parameter("kind"), fields=(Field("of"),)),
        0x52: Instruction(
            "READ BUFFER",
            p1_p2=_OFFSET,
            fields=(Field("buffer", 1, {b"\x01": "T", b"\x02": "V"}), Field("count", 1)),
        ),
        0x56: Instruction("GET PROPERTIES", Parameter("kind"), fields=(Field("tags"),)),
        0x58: Instruction("UPDATE BUFFER", p1_p2=_OFFSET),
        # 02 is no file here, but one of the applet's objects (5.3.3.2).
        0xA4: Instruction(
            "SELECT", Parameter("by", {**SELECT_BY, 0x02: "object"}), fields=SELECTED
        ),
    },
    {0x6984: "incorrect data field"},
)
