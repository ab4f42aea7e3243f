# SPDX-License-Identifier: LGPL-2.1-or-later
"""A part of `./dev sweep`: tries, an object and a reader, at every call that keeps them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sweep import strace


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("KILL", ("VERIFY wrong", "CHANGE PUK", "reader add")),
        ("ENOSPC", ("PUT DATA over another",)),
        ("EIO", ("RESET RETRY COUNTER wrong",)),
    ],
)
def test_every_write(kind: str, commands: tuple[str, ...]) -> None:
    if lacking := strace.missing():
        pytest.skip(lacking)
    swept = subprocess.run(  # it forks, which a process with threads should not
        [sys.executable, "-m", "tests.sweep", f"--kind={kind}", *commands],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    print(swept.stdout)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert len(swept.stdout.splitlines()) > len(commands)
