# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a test says whose answer is not the one it expected."""

from __future__ import annotations

import pytest

from tests.answers import Answer, told
from vccid.iso7816 import status

VERIFY = bytes.fromhex("00 20 00 00 04 31 32 33 34")
READ = bytes.fromhex("00 B0 00 00 02")
LINE = "VERIFY → 63C2 (2 tries left), expected 9000"


def test_in_words() -> None:
    wrong = Answer(status.tries_left(2), VERIFY)
    assert told(wrong, status.SUCCESS) == told(status.SUCCESS, wrong) == [LINE]
    assert told(Answer(b"data" + wrong, VERIFY)[-2:], status.SUCCESS) == [LINE]
    assert told(bytes(wrong), status.SUCCESS) == ["63C2 (2 tries left), expected 9000"]
    assert told(Answer(b"\x01\x02\x90\x00", READ), b"\x01\x03\x90\x00") == [
        "READ BINARY offset 0000 → 2 bytes and 9000, expected 2 bytes and 9000",
        "answer   01 02 90 00",
        "expected 01 03 90 00",
    ]
    assert told(b"some", b"other") is told(1, 2) is told(wrong, "9000") is None


def test_pytest_says_so() -> None:
    with pytest.raises(AssertionError, match=r"VERIFY → 63C2 \(2 tries left\), expected 9000"):
        assert Answer(status.tries_left(2), VERIFY) == status.SUCCESS
