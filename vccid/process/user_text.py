# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names and paths that users give: any Unicode but what would end or forge a line."""

from __future__ import annotations

import unicodedata


def fault(text: str) -> str:
    """What makes a text no name of a file, certificate or token, or "".

    Blanks of all kinds and the joiners of emoji are fine, though Python calls them unprintable.
    Lone surrogates are how it carries bytes that are no UTF-8 (PEP 383).
    """
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            return "bytes that are no UTF-8"
        if category == "Cc":
            return "a line break" if character in "\r\n" else "a control character"
    return ""


def shown(text: str) -> str:
    """A text with a fault, as ASCII that shows where it is."""
    return text.encode("ascii", "backslashreplace").decode("ascii").replace("\n", "\\n")
