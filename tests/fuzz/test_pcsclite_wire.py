# SPDX-License-Identifier: LGPL-2.1-or-later
"""A short run of the fuzz target of what programs of PC/SC send; for a long one, run it itself."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

RUNS = 10_000

_NAME = b"vccid vccid0 00 00".ljust(128, b"\0")


def _request(command: int, body: bytes = b"", behind: bytes = b"") -> bytes:
    return struct.pack("=II", len(body), command) + body + behind


def _connect(context: int, mode: int = 2) -> bytes:
    return _request(4, struct.pack("=I128sIIiII", context, _NAME, mode, 3, 0, 0, 0))


def _said(who: int, wire: bytes) -> bytes:
    """The wire as the target takes it: in chunks, each with its speaker."""
    chunks = [wire[at : at + 60] for at in range(0, len(wire), 60)]
    return b"".join(bytes([len(chunk) << 1 | who]) + chunk for chunk in chunks)


_RECONNECT = _request(5, struct.pack("=6I", 1, 2, 3, 1, 0, 0))
_WAIT = _request(0x13) + _request(0x16) + _request(0x17)
_TRANSMIT = _request(9, struct.pack("=iIIIIIII", 1, 1, 16, 5, 3, 16, 258, 0), b"\0\xa4\4\0\0")
_TALK = _connect(1) + _request(7, struct.pack("=iI", 1, 0)) + _TRANSMIT
SEEDS = (
    b"\x10" + _request(0x11, struct.pack("=iiI", 4, 4, 0)) + _request(0x13) + _request(0x14),
    b"\x20" + _TRANSMIT,
    b"\x01" + _said(0, _TALK) + _said(1, _connect(2) + _request(7, struct.pack("=iI", 2, 0))),
    b"\x01" + _said(0, _connect(1, 1)) + b"\x80" + _said(0, _RECONNECT),
    b"\x01" + _said(1, _WAIT) + b"\x80" + _said(0, _TALK),
    b"\x01" + _said(0, _TALK + _request(8, struct.pack("=iII", 1, 1, 0))),
    b"\x01" + _said(0, _TALK + _request(6, struct.pack("=iII", 1, 2, 0))),
)  # fmt: skip


def test_whatever_comes_is_answered_or_refused_and_leaves_nothing(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(seed)
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_pcsclite", f"-runs={RUNS}", "-max_len=800",
         "-seed=1", f"-artifact_prefix={tmp_path}/", str(corpus)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    done = re.search(r"Done (\d+) ", run.stderr)
    assert done is not None and int(done[1]) >= RUNS, run.stderr[-500:]
