# SPDX-License-Identifier: LGPL-2.1-or-later
"""Children of the keeper, which ignores what would end it."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import os, signal
from vccid.run.process import spawn_server

signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(5):
    pid = spawn_server(["/bin/sleep", "5"], {})
    os.kill(pid, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_server_that_was_just_begun_hears_that_it_shall_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["-15"] * 5, done.stderr
