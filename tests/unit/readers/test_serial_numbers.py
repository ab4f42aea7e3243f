# SPDX-License-Identifier: LGPL-2.1-or-later
"""Serial numbers of readers."""

from __future__ import annotations

import re
from pathlib import Path

from vccid.readers.serial_numbers import SerialNumbers

OURS = SerialNumbers(Path("/var/lib/vccid"))
ANOTHERS = SerialNumbers(Path("/home/user/.local/state/vccid"))


def test_one_for_each_reader_and_daemon() -> None:
    numbers = {serials.of(name) for serials in (OURS, ANOTHERS) for name in ("vccid0", "vccid1")}
    assert len(numbers) == 4
    assert all(re.fullmatch("[0-9A-F]{16}", number) for number in numbers)


def test_the_same_at_every_start() -> None:
    assert OURS.of("vccid0") == SerialNumbers(Path("/var/lib/vccid")).of("vccid0")


def test_whose_it_is() -> None:
    assert OURS.is_ours(OURS.of("vccid0"))
    assert OURS.is_ours(OURS.of("a reader that was removed"))
    for number in (ANOTHERS.of("vccid0"), "", OURS.of("vccid0")[:8], "vccid0"):
        assert not OURS.is_ours(number)


def test_a_chosen_one_is_ours_too(tmp_path: Path) -> None:
    numbers = SerialNumbers(tmp_path)
    assert not numbers.is_ours("12345")
    assert numbers.of("vccid0", "12345") == "12345"
    assert numbers.is_ours("12345") and numbers.is_ours(numbers.of("vccid0"))
