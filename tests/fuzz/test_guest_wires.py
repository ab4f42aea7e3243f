# SPDX-License-Identifier: LGPL-2.1-or-later
"""A short run of the fuzz targets of cards and of what guests send; `-runs` makes a long one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

#: A card is more work than a parser.
RUNS = {"fuzz_card": 6_000, "fuzz_piv": 2_000}
OTHER_RUNS = 100_000

#: A target, and inputs that reach far into it.
SEEDS = {
    "fuzz_vsc": [
        "0c" "00000001" "00000000" "0000000c" "56534344" "00000002" "00000000",
        "05" "00000003" "00000000" "00000001" "61" "00000005" "00000000" "00000002" "3b00",
        "07" "00000002" "00000000" "00000004" "00000001" "00000007" "00000000" "00000002" "9000",
    ],
    "fuzz_card": [
        "00" "0d" "00a4040007a000000079010000" "0d" "00200000083132333435363738",
        "00" "0d" "00a4040007a000000079010000" "07" "00520000020102" "05" "00c0000010",
        "01" "09" "1087079a047c028100" "08" "0087079a03820000" "05" "00c0000000" "04" "00c00000",
    ],
    "fuzz_piv": ["00" + "0f000100000102" * 8 + "03000001020304" * 40, "0512080102030405" * 45],
    "fuzz_usbredir": [
        "40ff" "06000000" "01000000" "0500000000000000" "01",
        "55ff" "64000000" "0a000000" "0800000000000000" "80068000000100001200",
        "60ff" "65000000" "0b000000" "0900000000000000" "01000100000000000000aa",
        "4001" "15000000" "00000000" "01000000" "67000000" "04000000" "00000000" "01000000",
    ],
}


@pytest.mark.parametrize("target", SEEDS)
def test_whatever_comes_is_parsed_or_refused(target: str, tmp_path: Path) -> None:
    runs = RUNS.get(target, OTHER_RUNS)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[target]):
        (corpus / str(number)).write_bytes(bytes.fromhex(seed))
    run = subprocess.run(
        [sys.executable, "-m", f"tests.fuzz.{target}", f"-runs={runs}", "-max_len=400",
         "-seed=1", f"-artifact_prefix={tmp_path}/", str(corpus)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    done = re.search(r"Done (\d+) ", run.stderr)
    assert done is not None and int(done[1]) >= runs, run.stderr[-500:]
