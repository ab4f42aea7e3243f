# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a card can hold and the programs that read it cannot use, with the way out.

A CAC is used through OpenSC's driver for it by nearly every program: by pkcs11-tool, p11tool
(GnuTLS), Firefox and other programs of NSS, and on Windows by its minidriver.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Final

from vccid.card.cac.pki import MOST_FOR_OPENSC
from vccid.card.pin import MAX_PIN, MIN_PIN
from vccid.keys.base import Credential
from vccid.keys.x509_reading import read_certificate

#: What card-cac.c of OpenSC 0.23 to 0.27 registers.
OPENSC_RSA_BITS: Final = (1024, 2048, 3072)

_Fits = Callable[[Credential], bool]


def cac_warnings(credentials: Sequence[Credential]) -> list[str]:
    """What a user should know of a CAC's certificates, each fault in one line for all it is in."""
    return [
        *_told(
            credentials,
            lambda item: item.key.size_bits in OPENSC_RSA_BITS,
            "the key of {names} has a size that OpenSC's CAC driver does not know, so no program"
            " of this or another host signs with it: take RSA of 2048 or 3072 bits",
        ),
        *_told(
            credentials,
            lambda item: len(item.certificate) <= MOST_FOR_OPENSC or not _compressed_fits(item),
            f"{{names}}: a certificate over {MOST_FOR_OPENSC} bytes is kept compressed, which"
            " OpenSC reads from version 0.24 on (Debian 13); for older ones, take a smaller one",
        ),
        *_told(
            credentials,
            lambda item: len(item.certificate) <= MOST_FOR_OPENSC or _compressed_fits(item),
            f"{{names}}: OpenSC shows no certificate over {MOST_FOR_OPENSC} bytes, nor does"
            " compression help here: take a smaller one",
        ),
        *_told(
            credentials[:1],
            _can_be_addressed,
            "the common name of {names} names the token, and NSS cannot address one with a colon"
            " or line break as token:nickname: use a pkcs11: URI there, or another certificate"
            " first",
        ),
    ]


def is_pin_for_hosts(password: bytes) -> bool:
    """Whether a token's password can be typed as a card's PIN: OpenSC and Windows pad it to 8."""
    return MIN_PIN <= len(password) <= MAX_PIN and all(0x20 <= byte < 0x7F for byte in password)


def password_warning(token: str) -> str:
    """For a card whose PIN is a password no host can send."""
    return (
        f"the password of {token} is no PIN of {MIN_PIN} to {MAX_PIN} characters, so OpenSC and"
        " Windows cannot send it to the card: give the card a PIN of its own, with --pin-file"
    )


def _told(credentials: Sequence[Credential], fits: _Fits, text: str) -> list[str]:
    names = [item.name for item in credentials if not fits(item)]
    return [text.format(names=", ".join(dict.fromkeys(names)))] if names else []


def _compressed_fits(item: Credential) -> bool:
    return len(zlib.compress(item.certificate, 9)) <= MOST_FOR_OPENSC


def _can_be_addressed(item: Credential) -> bool:
    reading = read_certificate(item.certificate)
    name = "" if reading is None else reading.common_name
    # A line break stands here as it is written out.
    return ":" not in name and "\\u000A" not in name and "\\u000D" not in name
