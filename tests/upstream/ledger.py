# SPDX-License-Identifier: LGPL-2.1-or-later
"""What another's suite leaves out on our card, and why: nothing else may be left out or fail."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree


class Results:
    """What became of each test of a run of pytest's.

    Attributes:
        passed: names.
        skipped: reasons by name.
        failed: messages by name.
    """

    def __init__(self, report: Path) -> None:
        """`report` is what --junit-xml wrote."""
        self.passed: set[str] = set()
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            fault = next((child for child in case if child.tag in ("failure", "error")), None)
            skip = case.find("skipped")
            if fault is not None:
                self.failed[name] = fault.get("message", "")
            elif skip is not None:
                self.skipped[name] = skip.get("message", "")
            else:
                self.passed.add(name)


def check(results: Results, left_out: Mapping[str, tuple[int, str]]) -> None:
    """Hold a run against a ledger.

    Args:
        left_out: for each reason the suite gives to skip (a regular expression), how many tests
            it may be given for, and why that is right here.
    """
    assert not results.failed, results.failed
    counted: Counter[str] = Counter()
    for name, reason in results.skipped.items():
        known = [pattern for pattern in left_out if re.search(pattern, reason)]
        assert len(known) == 1, f"{name} was left out: {reason}"
        counted[known[0]] += 1
    assert counted == {pattern: count for pattern, (count, _) in left_out.items()}
