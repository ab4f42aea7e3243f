# SPDX-License-Identifier: LGPL-2.1-or-later
"""A short run of the fuzz targets of what USB, serial and CUSE send; `-runs` makes a long one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 20_000

#: A target, and inputs that reach far into it.
SEEDS = {
    "fuzz_ccid": ["0062000000000001000000", "006f0500000000020000000020000000", "69"],
    "fuzz_usb": ["80068000000100001200", "01000062000000000001000000"],
    "fuzz_usbip": [
        "10" "0111" "8003" "00000000" "312d31" + "00" * 29,
        "61" "00000002" "00000d07" "0001000f" "00000000" "00000000" "00000d05" + "00" * 24,
    ],
    "fuzz_fuse": [
        # the header from its opcode on: WRITE of 5 bytes, IOCTL of 4, POLL
        "80" "00000000" "10000000" + "00" * 48 + "05000000" + "00" * 20 + "00a4040000",
        "80" "00000000" "27000000" + "00" * 56 + "04000000" "22000000" "01020304",
        "80" "00000000" "28000000" + "00" * 56,
    ],
    "fuzz_serial": ["10" + "0306650000000000002A0000004A" * 2, "01" "00C0" "00"],
}


@pytest.mark.parametrize("target", SEEDS)
def test_whatever_comes_is_answered_or_refused(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[target]):
        (corpus / str(number)).write_bytes(bytes.fromhex(seed))
    run = subprocess.run(
        [sys.executable, "-m", f"tests.fuzz.{target}", f"-runs={RUNS}", "-max_len=600",
         "-seed=1", f"-artifact_prefix={tmp_path}/", str(corpus)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    done = re.search(r"Done (\d+) ", run.stderr)
    assert done is not None and int(done[1]) >= RUNS, run.stderr[-500:]
