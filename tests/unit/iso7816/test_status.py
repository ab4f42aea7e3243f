# SPDX-License-Identifier: LGPL-2.1-or-later
"""The status words by their names, written out once more (ISO/IEC 7816-4:2020, 5.6)."""

from __future__ import annotations

import pytest

from vccid.iso7816 import status


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("SUCCESS", "9000"),
        ("EXECUTION_ERROR", "6400"),
        ("MEMORY_FAILURE", "6581"),
        ("WRONG_LENGTH", "6700"),
        ("CHANNEL_NOT_SUPPORTED", "6881"),
        ("SECURE_MESSAGING_NOT_SUPPORTED", "6882"),
        ("CHAINING_NOT_SUPPORTED", "6884"),
        ("COMMAND_NOT_ALLOWED", "6900"),
        ("SECURITY_STATUS_NOT_SATISFIED", "6982"),
        ("AUTHENTICATION_BLOCKED", "6983"),
        ("DATA_INVALID", "6984"),
        ("CONDITIONS_NOT_SATISFIED", "6985"),
        ("PARAMETERS_WRONG", "6A00"),
        ("INCORRECT_DATA", "6A80"),
        ("FUNCTION_NOT_SUPPORTED", "6A81"),
        ("NOT_FOUND", "6A82"),
        ("INCORRECT_P1_P2", "6A86"),
        ("REFERENCED_DATA_NOT_FOUND", "6A88"),
        ("INSTRUCTION_NOT_SUPPORTED", "6D00"),
        ("CLASS_NOT_SUPPORTED", "6E00"),
        ("NO_PRECISE_DIAGNOSIS", "6F00"),
    ],
)
def test_words(name: str, word: str) -> None:
    assert vars(status)[name].hex().upper() == word


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (status.tries_left(2), "63C2"),
        (status.tries_left(0), "63C0"),
        (status.tries_left(99), "63CF"),
        (status.bytes_available(1), "6101"),
        (status.bytes_available(255), "61FF"),
        (status.bytes_available(256), "6100"),
        (status.bytes_available(65_536), "6100"),
        (status.wrong_le(29), "6C1D"),
        (status.wrong_le(256), "6C00"),
        (status.more_data(1), "6301"),
        (status.more_data(1000), "63FF"),
    ],
)
def test_words_with_a_count(made: bytes, word: str) -> None:
    assert made.hex().upper() == word
