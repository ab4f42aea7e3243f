# SPDX-License-Identifier: LGPL-2.1-or-later
"""A short run of libFuzzer over the driver's parser; for a long one, give it -max_total_time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNS = 100_000

#: Whole frames of the daemon, each as one piece.
SEEDS = {
    "hello": b"\x01\x00\x00\x00\x00\x0bVCCIDIFD\x00\x01\x01",
    "card": b"\x02\x00\x00\x00\x00\x0b\x01" + bytes(7) + b"\x01\x3b\x00",
    "longest ATR": b"\x02\x00\x00\x00\x00\x2a\x01" + bytes(7) + b"\x01" + bytes(33),
    "empty": b"\x02\x00\x00\x00\x00\x09\x00" + bytes(8),
    "busy and answer": b"\x04\x00\x00\x00\x00\x00\x13\x00\x00\x00\x00\x02\x90\x00",
    "refusal": b"\x10\x02\x00\x00\x00\x00",
    "4 GiB": b"\x13\x00\xff\xff\xff\xff",
}


def test_the_driver_parses_whatever_a_daemon_sends(tmp_path: Path) -> None:
    target = tmp_path / "driver_wire"
    subprocess.run(
        ["clang", "-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror",
         "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined",
         Path(__file__).with_name("driver_wire.c"), ROOT / "pcscd-ifd" / "wire.c",
         "-o", target],
        check=True,
        timeout=100,
    )  # fmt: skip
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, frame in SEEDS.items():
        (corpus / name).write_bytes(bytes([len(frame)]) + frame)
    run = subprocess.run(
        [target, f"-runs={RUNS}", "-max_len=4096", "-seed=1", corpus],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    done = re.search(r"Done (\d+) runs", run.stderr)
    assert done is not None and int(done[1]) >= RUNS
