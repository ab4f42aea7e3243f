# SPDX-License-Identifier: LGPL-2.1-or-later
"""How vccidctl ends where nobody foresaw what went wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from vccid.ctl import main
def fail(**_):
    raise {error}
main.cli.main = fail
main.main()
"""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RuntimeError('odd')", "something unexpected went wrong: RuntimeError: odd"),
        ("MemoryError()", "there is no memory left"),
        ("UnicodeEncodeError('ascii', 'x', 0, 1, 'no')", "something unexpected went wrong"),
    ],
)
def test_whatever_comes_is_told_and_is_a_failure(error: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(error=error)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback"), "its place is told"
    assert f"vccidctl: {message}" in done.stderr
