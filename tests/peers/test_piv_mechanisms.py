# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PIV card through OpenSC: each mechanism it tells of with each key that may use it, verified."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.piv import Issued
from tests.peers.stage import ROOT, Stage

#: In 9A, 9C, 9D, 9E and 82 on. Of OpenSC, retired keys decrypt and agree alone.
CARDS = {
    "EC": ("P-256", "P-256", "P-256", "P-384", "P-384"),
    "RSA": ("RSA2048", "RSA2048", "RSA2048", "RSA3072", "RSA1024"),
}


@pytest.fixture(scope="module")
def desk(stage: Stage) -> Iterator[Desk]:
    seen = stage.host()
    yield seen
    if stage.daemon.ctl_json("status")["readers"][0]["card"]:
        stage.daemon.ctl("remove", "--wait")


@pytest.mark.parametrize("family", CARDS)
def test_every_mechanism(stage: Stage, desk: Desk, tmp_path: Path, family: str) -> None:
    """9C, which wants the PIN before each use, is in test_piv_opensc."""
    issued = Issued(tmp_path, *CARDS[family])
    stage.daemon.ctl("insert", "--card", "piv", "--certs", issued.items, "--wait")
    keys = [f"{n:02}={file}" for n, file in enumerate(issued.files, start=1) if n != 2]
    said = desk.say(
        sys.executable, "-m", "tests.peers.pkcs11_mechanisms", OPENSC_MODULE, PIN, *keys,
        env={"PYTHONPATH": str(ROOT)}, timeout=100,
    )  # fmt: skip
    stage.daemon.ctl("remove", "--wait")
    right = json.loads(said.splitlines()[-1])
    told = {name for name in right.pop("told") if ("RSA" in name) == (family == "RSA")}
    assert set().union(*right.values()) == told
    assert len(told) == (8 if family == "EC" else 15)
    assert all(right.values())
