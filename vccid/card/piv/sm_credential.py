# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a card that speaks secure messaging has for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from vccid.card.piv.cipher_suites import Suite


@dataclass(frozen=True, slots=True)
class SmCredential:
    """What a card has for secure messaging.

    Attributes:
        suite: the cipher suite.
        pkcs8: key 04, DER.
        certificate: its CVC.
        signer: content of the object 5FC122, with the intermediate CVC where there is one.
        pairing_code: eight digits.
    """

    suite: Suite
    pkcs8: bytes = field(repr=False)
    certificate: bytes
    signer: bytes
    pairing_code: str = field(repr=False)
