# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual pages are well formed; that they are true is tested beside the code they tell of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "man").iterdir())

#: Our lines have 100 columns, and a page is as old as the package it comes with.
NOT_MEANT = ("input text line longer than 80 bytes", "missing date")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_finds_nothing_to_complain_about(page: Path) -> None:
    said = subprocess.run(
        ["mandoc", "-T", "lint", page], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    assert [line for line in said if not any(word in line for word in NOT_MEANT)] == []
