# SPDX-License-Identifier: LGPL-2.1-or-later
"""One version, wherever it is told. The package's is the source; what is built takes it there."""

from __future__ import annotations

import re
from pathlib import Path

from vccid import __version__

ROOT = Path(__file__).parents[2]


def first(pattern: str, name: str) -> str:
    found = re.search(pattern, (ROOT / name).read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_both_changelogs_begin_with_this_version() -> None:
    assert first(r"^## \[([0-9.]+)\] - \d{4}-\d\d-\d\d$", "CHANGELOG.md") == __version__
    assert first(r"^vccid \((.+)\) unstable", "debian/changelog") == __version__


def test_the_page_for_ci_names_this_version() -> None:
    page = (ROOT / "docs/howto/ci.md").read_text()
    assert set(re.findall(r"(?:@v|vccid:)([0-9.]+[0-9])", page)) == {__version__}
