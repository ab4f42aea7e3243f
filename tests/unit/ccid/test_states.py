# SPDX-License-Identifier: LGPL-2.1-or-later
"""The slot's states as docs/ccid.md tabulates them are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from vccid.ccid.states import BUSY, ICC_STATUS, State

PAGE = (Path(__file__).parents[3] / "docs" / "ccid.md").read_text()


def test_bm_icc_status_of_each_state() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \| ([0-2]) \|$", PAGE, re.MULTILINE)
    assert {State[name]: int(status) for name, status in rows} == ICC_STATUS


def test_what_is_busy() -> None:
    listed = re.search(r"^([A-Z, a-z]+) are busy: any other command", PAGE, re.MULTILINE)
    assert listed is not None
    assert {State[name] for name in re.findall(r"[A-Z]{3,}", listed[1])} == BUSY
