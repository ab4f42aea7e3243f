# SPDX-License-Identifier: LGPL-2.1-or-later
"""The FASC-N: 40 characters of five bits in 25 bytes (TIG SCEPACS 2.3, 6; SP 800-73-5, 3.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_START, _SEPARATOR, _END = 0b11010, 0b10110, 0b11111

#: Digits of each field; those from the fifth on follow each other without separators.
_LENGTHS: Final = (4, 4, 6, 1, 1, 10, 1, 4, 1)


@dataclass(frozen=True, slots=True)
class FascN:
    """Federal Agency Smart Credential Number.

    Attributes:
        agency: 4 digits; 9999 says that no federal agency issued the card.
        system: 4 digits.
        credential: 6 digits.
        series: 1 digit.
        issue: 1 digit.
        person: 10 digits.
        category: 1 digit, 3 for a person's own identifier of the issuer.
        organisation: 4 digits.
        association: 1 digit.
    """

    agency: str = "9999"
    system: str = "9999"
    credential: str = "999999"
    series: str = "0"
    issue: str = "1"
    person: str = "0000000000"
    category: str = "3"
    organisation: str = "0000"
    association: str = "1"

    def encode(self) -> bytes:
        """25 bytes.

        Raises:
            ValueError: a field is no number of its length.
        """
        fields = (
            self.agency, self.system, self.credential, self.series, self.issue,
            self.person, self.category, self.organisation, self.association,
        )  # fmt: skip
        for field, length in zip(fields, _LENGTHS, strict=True):
            if len(field) != length or not (field.isascii() and field.isdigit()):
                raise ValueError(f"a FASC-N field of {length} digits cannot be {field!r}")
        characters = [_START]
        for field in fields[:4]:
            characters += [*map(_digit, field), _SEPARATOR]
        characters += [*map(_digit, fields[4]), _SEPARATOR]
        characters += map(_digit, "".join(fields[5:]))
        characters.append(_END)
        check = 0
        for character in characters:
            check ^= character
        bits = 0
        for character in (*characters, check):
            bits = bits << 5 | character
        return bits.to_bytes(25, "big")


def _digit(digit: str) -> int:
    """Four bits, the low one first, and odd parity."""
    value = int(digit)
    code = sum((value >> bit & 1) << (4 - bit) for bit in range(4))
    return code | (code.bit_count() + 1) % 2
