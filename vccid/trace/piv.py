# SPDX-License-Identifier: LGPL-2.1-or-later
"""The PIV card application's commands (SP 800-73-5 part 2, 3), and Yubico's on top of them."""

from __future__ import annotations

from typing import Final

from vccid.trace.words import Application, Field, Instruction, Parameter

#: Reference data and keys (SP 800-73-5 part 1, tables 4 and 5).
_REFERENCES: Final = Parameter(
    "reference",
    {
        0x00: "global PIN",
        0x80: "application PIN",
        0x81: "PUK",
        0x96: "primary finger",
        0x97: "secondary finger",
        0x98: "pairing code",
    },
)
_KEYS: Final = Parameter(
    "key",
    {
        0x04: "secure messaging key",
        0x9A: "PIV authentication key",
        0x9B: "card management key",
        0x9C: "digital signature key",
        0x9D: "key management key",
        0x9E: "card authentication key",
        **{0x81 + number: f"retired key management key {number}" for number in range(1, 21)},
    },
)

#: Cryptographic mechanisms (SP 800-78-5, table 6-2).
_ALGORITHMS: Final = Parameter(
    "algorithm",
    {
        0x00: "three-key TDEA",
        0x03: "three-key TDEA",
        0x05: "RSA 3072",
        0x06: "RSA 1024",
        0x07: "RSA 2048",
        0x08: "AES-128",
        0x0A: "AES-192",
        0x0C: "AES-256",
        0x11: "P-256",
        0x14: "P-384",
        0x27: "cipher suite 2",
        0x2E: "cipher suite 7",
    },
)

#: Data objects by their tag list (SP 800-73-5 part 1, table 3).
_OBJECTS: Final = {
    "5FC107": "card capability container",
    "5FC102": "CHUID",
    "5FC105": "certificate for PIV authentication",
    "5FC103": "fingerprints",
    "5FC106": "security object",
    "5FC108": "facial image",
    "5FC101": "certificate for card authentication",
    "5FC10A": "certificate for digital signature",
    "5FC10B": "certificate for key management",
    "5FC109": "printed information",
    "5FC10C": "key history",
    "5FC121": "iris images",
    "5FC122": "secure messaging certificate signer",
    "5FC123": "pairing code reference data",
    "7E": "discovery object",
    "7F61": "biometric group template",
    **{f"5FC1{0x0C + number:02X}": f"retired certificate {number}" for number in range(1, 21)},
}


_TAG_LISTS: Final = {
    b"\x5c" + bytes((len(tag) // 2,)) + bytes.fromhex(tag): name for tag, name in _OBJECTS.items()
}

PIV: Final = Application(
    "PIV",
    (bytes.fromhex("A000000308"),),
    {
        0x20: Instruction(
            "VERIFY", Parameter("P1", {0x00: "", 0xFF: "log out"}), _REFERENCES, secrets=("PIN",)
        ),
        0x24: Instruction("CHANGE REFERENCE DATA", p2=_REFERENCES, secrets=("old PIN", "new PIN")),
        0x2C: Instruction("RESET RETRY COUNTER", p2=_REFERENCES, secrets=("PUK", "new PIN")),
        0x47: Instruction("GENERATE ASYMMETRIC KEY PAIR", p2=_KEYS),
        # What comes back may be a decrypted key, or a secret agreed on.
        0x87: Instruction("GENERAL AUTHENTICATE", _ALGORITHMS, _KEYS, secret_answer=True),
        # Two of the objects are a secret themselves, the pairing code and the printed information.
        0xCB: Instruction(
            "GET DATA",
            p1_p2=Parameter("file", {0x3FFF: ""}),
            fields=(Field("tag list", values=_TAG_LISTS),),
            secret_answer=True,
        ),
        0xDB: Instruction(
            "PUT DATA", p1_p2=Parameter("file", {0x3FFF: ""}), secrets=("data object",)
        ),
        0xF6: Instruction("MOVE KEY", Parameter("to"), Parameter("from")),
        0xF7: Instruction("GET METADATA", p2=_KEYS),
        0xF8: Instruction("GET SERIAL"),
        0xF9: Instruction("ATTEST", _KEYS),
        0xFA: Instruction("SET PIN RETRIES", Parameter("PIN tries"), Parameter("PUK tries")),
        0xFB: Instruction("RESET"),
        0xFD: Instruction("GET VERSION"),
        0xFE: Instruction("IMPORT KEY", _ALGORITHMS, _KEYS, secrets=("key",)),
        0xFF: Instruction("SET MANAGEMENT KEY", secrets=("key",)),
    },
    {
        0x6A80: "incorrect parameter in the command data field",
        0x6A82: "data object or application not found",
    },
)
