# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/where.md: thirty requests, each with files that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_request_leads_to_files_that_are_there() -> None:
    rows = re.findall(
        r"^\| (\d+) \| .+ \| (.+) \|$", (ROOT / "docs" / "where.md").read_text(), re.MULTILINE
    )
    assert [int(number) for number, _ in rows] == list(range(1, 31))
    named = [path for _, files in rows for path in re.findall(r"`([^`]+)`", files)]
    assert [path for path in named if not (ROOT / path).is_file()] == []
