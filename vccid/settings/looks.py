# SPDX-License-Identifier: LGPL-2.1-or-later
"""How readers and cards may be made to look: names, strings of USB, answers to reset."""

from __future__ import annotations

from typing import Final, Literal

from vccid.card.touch import TouchMode
from vccid.errors import RemoteProtocolError
from vccid.iso7816.atr import ALTERNATE_TOKEN_ATR, Atr, fault_of

#: Answers to reset that have a name: libcacard's, and one of T=1.
ATRS: Final = ("cac", "t1")

#: Cards as they are issued: what kind each is, and its answer to reset. A kind's own name is one
#: that has the kind's.
ISSUED: Final[dict[str, tuple[Literal["piv"], str]]] = {
    "piv-only-2025": ("piv", ALTERNATE_TOKEN_ATR.hex()),
}
#: Whom a PIV card may be taken for (`vccid.card.piv.profiles`, which takes a while to load), by the
#: names a user may give.
PROFILES: Final = {
    "yubikey-5": "yubikey-5.4",
    "yubikey-5.4": "yubikey-5.4",
    "yubikey-5.7": "yubikey-5.7",
}
#: The greatest serial number Yubico's tools know.
MOST_NUMBER: Final = 0xFFFFFFFF
#: Kinds of a PIV card's key for secure messaging.
SM_KINDS: Final = ("cs2", "cs7", "cs2-intermediate", "cs7-intermediate")
#: Who may touch a card.
TOUCHES: Final = tuple(mode.value for mode in TouchMode)

#: Bytes of a name; libpcsclite has 128, a NUL, and pcscd's own " 00 00" among them.
LABEL_MAX: Final = 100
#: What one string descriptor holds (USB 2.0, 9.6.7), in UTF-16 units.
USB_STRING_MAX: Final = 126


def check_label(text: str) -> str:
    """ "" for a name that programs can see a reader by, else what it must be.

    reader.conf(5) has it in double quotes on one line.
    """
    fits = text.isprintable() and text == text.strip() and '"' not in text
    if fits and 0 < len(text.encode("utf-8", "replace")) <= LABEL_MAX:
        return ""
    return (
        f"1 to {LABEL_MAX} bytes of printable text without double quotes, and no blank at its ends"
    )


def check_optional_label(text: str) -> str:
    """The same, or empty."""
    return check_label(text) if text else ""


def check_usb_string(text: str) -> str:
    """ "" for a string descriptor's text, or none; else what it must be."""
    if text.isprintable() and len(text.encode("utf-16-le", "replace")) <= 2 * USB_STRING_MAX:
        return ""
    return f"printable text of at most {USB_STRING_MAX} characters"


def check_atr(text: str) -> str:
    """ "" for what a card can answer to a reset with, else what it must be."""
    if text in ATRS:
        return ""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return f"one of {', '.join(ATRS)}, or an answer to reset in hexadecimal"
    try:
        return fault_of(Atr.parse(raw))
    except RemoteProtocolError as error:
        return f"an answer to reset (ISO/IEC 7816-3, 8.2); this is {error.message}"


def atr_bytes(text: str) -> bytes | None:
    """An answer to reset that was checked and has no name of its own, else None."""
    return None if text in ATRS else bytes.fromhex(text)
