# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be the name of a file, certificate or token."""

from __future__ import annotations

import pytest

from vccid.process.user_text import fault, shown


@pytest.mark.parametrize(
    "text",
    ["", "plain", "Zoë", "no\u00a0break", "\U0001f469\u200d\U0001f4bb", "\u2028", "\ue000", ":'<>"],
)
def test_names(text: str) -> None:
    assert fault(text) == ""


@pytest.mark.parametrize(
    ("text", "what", "as_ascii"),
    [
        ("a\nb", "a line break", r"a\nb"),
        ("a\x1b[2J", "a control character", "a\x1b[2J"),
        ("a\0", "a control character", "a\0"),
        ("a\x85", "a control character", r"a\x85"),
        ("caf\udce9", "bytes that are no UTF-8", r"caf\udce9"),
    ],
)
def test_what_is_none(text: str, what: str, as_ascii: str) -> None:
    assert (fault(text), shown(text)) == (what, as_ascii)
