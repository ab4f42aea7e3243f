# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a certificate goes on a card, and which keys it may have there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vccid.keys.base import PublicKey
from vccid.keys.rsa import MAX_BITS, MIN_BITS, Modulus

#: What the first three certificates of a CAC are for.
_PURPOSES: Final = ("ID", "signature", "encryption")


@dataclass(frozen=True, slots=True)
class Holder:
    """A place for one certificate and its key.

    Attributes:
        name: for people, such as "CAC PKI applet 1 (ID)".
        takes: for people, the keys it takes.
        fits: whether a key is one of them.
    """

    name: str
    takes: str
    fits: Callable[[PublicKey], bool]


def cac_applet(position: int) -> Holder:
    """The PKI applet of a CAC that holds a certificate; the first has position 0."""
    purpose = f" ({_PURPOSES[position]})" if position < len(_PURPOSES) else ""
    return pki_applet(f"CAC PKI applet {position + 1}{purpose}")


def pki_applet(name: str) -> Holder:
    """A PKI applet of any name."""
    return Holder(
        name,
        f"RSA keys of {MIN_BITS} to {MAX_BITS} bits in steps of 8;" " --card piv takes EC keys too",
        _fits_cac,
    )


def _fits_cac(public: PublicKey) -> bool:
    return (
        isinstance(public, Modulus) and MIN_BITS <= public.bits <= MAX_BITS and public.bits % 8 == 0
    )
