# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names, strings and answers to reset that users choose."""

from __future__ import annotations

import pytest

from vccid.settings.looks import check_atr, check_label, check_optional_label, check_usb_string


@pytest.mark.parametrize("text", ["Virtual PCD", "Yubico YubiKey CCID", "é" * 50, "[x] (1) \\ 'a'"])
def test_names_for_programs(text: str) -> None:
    assert check_label(text) == check_optional_label(text) == ""


@pytest.mark.parametrize("text", ["", " a", "a ", 'a"b', "a\nb", "a\0", "é" * 51, "\ud800"])
def test_no_names_for_programs(text: str) -> None:
    assert "100 bytes" in check_label(text)
    assert bool(check_optional_label(text)) == bool(text)


def test_usb_strings() -> None:
    assert check_usb_string("") == check_usb_string("Reader 2") == check_usb_string("é" * 126) == ""
    assert check_usb_string("x" * 127) and check_usb_string("𝄞" * 64) and check_usb_string("a\n")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("cac", ""),
        ("t1", ""),
        ("3B 00", ""),
        ("3b00", ""),
        ("t0", "hexadecimal"),
        ("3B0", "hexadecimal"),
        ("", "8.2"),
        ("3B00 00", "of 3 bytes, not 2"),
        ("3BF71300008131FE458031C173C021C0CE", "check byte"),
        ("3B80FE", "ends before"),
        ("3B800E8E", "T=0 or T=1"),
    ],
)
def test_answers_to_reset(text: str, word: str) -> None:
    wrong = check_atr(text)
    assert (word in wrong) if word else not wrong
