# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom a PIV card is taken for: nobody, or a test double of a YubiKey for programs that want one.

developers.yubico.com/PIV/Introduction/Yubico_extensions.html. A profile is asked for by name, and
never a default: what programs then find is vccid's, and no key of Yubico's is near it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vccid.card.piv.algorithms import Algorithm
from vccid.card.piv.references import AGREEING, KEYS
from vccid.iso7816.atr import T1_ATR

#: FIPS 201-3, 2.9.3, for the PIN; and as many for the PUK, which is the issuer's choice.
_STANDARD_TRIES: Final = 10

_EVERY_KEY: Final = frozenset(
    (
        Algorithm.RSA_1024, Algorithm.RSA_2048, Algorithm.RSA_3072, Algorithm.RSA_4096,
        Algorithm.P_256, Algorithm.P_384, Algorithm.ED25519, Algorithm.X25519,
    )
)  # fmt: skip

#: Of a YubiKey 5 at USB.
_YUBIKEY_ATR: Final = bytes.fromhex("3BFD1300008131FE15 8073C021C057597562694B6579 40")


@dataclass(frozen=True, slots=True)
class Profile:
    """What differs between cards that programs take for one thing or another.

    Attributes:
        name: what users call it, "" for the card that is nobody's double.
        version: of the firmware whose promises are kept.
        key_algorithms: those a key can be generated or imported with.
        management: algorithm of a new card's management key.
        agreeing: keys that agree on a secret (ECDH).
        most_tries: the most tries PIN and PUK can be given.
        moves: whether keys can be moved and deleted.
        is_double: whether it is a YubiKey's: any PIN of 6 to 8 bytes, a SELECT of PIV ends what
            was proved, the Management application, the attestation key's own slot, its words.
        atr: answer to reset.
        reader_name: what programs go by.
    """

    name: str
    version: bytes
    key_algorithms: frozenset[Algorithm] = _EVERY_KEY
    management: Algorithm = Algorithm.TDES
    agreeing: frozenset[int] = frozenset(KEYS)
    most_tries: int = 255
    moves: bool = False
    is_double: bool = True
    atr: bytes = _YUBIKEY_ATR
    reader_name: str = "Yubico YubiKey CCID"


#: 5.4.3: management keys of AES, metadata, VERIFY with P1 = FF.
PLAIN: Final = Profile(
    "", bytes((5, 4, 3)), agreeing=AGREEING, most_tries=_STANDARD_TRIES, is_double=False,
    atr=T1_ATR, reader_name="",
)  # fmt: skip

_YUBIKEY_5_4: Final = Profile(
    "yubikey-5.4",
    bytes((5, 4, 3)),
    frozenset((Algorithm.RSA_1024, Algorithm.RSA_2048, Algorithm.P_256, Algorithm.P_384)),
)
_YUBIKEY_5_7: Final = Profile(
    "yubikey-5.7", bytes((5, 7, 1)), management=Algorithm.AES_192, moves=True
)

#: By the name a user gives.
PROFILES: Final = {
    "yubikey-5": _YUBIKEY_5_4,
    "yubikey-5.4": _YUBIKEY_5_4,
    "yubikey-5.7": _YUBIKEY_5_7,
}


def profile_named(name: str) -> Profile:
    """The profile of a name that is one, or is empty."""
    return PROFILES[name] if name else PLAIN
