# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian that this host is not: `./dev` works there, too, as README says."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.debian_mirror import cache_of

from .__main__ import TESTS
from .root import CHECKOUT, ENTER, missing, run

SUITE = "bookworm" if platform.freedesktop_os_release()["VERSION_ID"] == "13" else "trixie"

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
    pytest.mark.timeout(1800),  # the first test may make the machine first
]


@pytest.mark.parametrize("command", [("demo",), TESTS], ids=["demo", "test"])
def test_dev_on_the_other_debian(command: tuple[str, ...], tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        status = run(SUITE, command, file)
    assert status == 0, output.read_text(errors="replace")[-20_000:]


def test_nothing_stays_of_one_that_is_killed() -> None:
    def entered() -> set[str]:
        listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
        return {line for line in listed.splitlines() if str(ENTER) in line}

    others = entered()
    running = subprocess.Popen(
        [sys.executable, "-m", "tests.fresh", SUITE, "lint"],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (ours := entered() - others):
            assert running.poll() is None
            time.sleep(0.01)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    while entered() & ours:
        time.sleep(0.01)
    assert str(cache_of("fresh")) not in Path("/proc/self/mounts").read_text()
