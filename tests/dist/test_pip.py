# SPDX-License-Identifier: LGPL-2.1-or-later
"""`pip install vccid` where CI jobs run: as an ordinary user, with no pcscd and no compiler."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fresh.root import PYTHON, missing

from . import container

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
    pytest.mark.timeout(900),  # the first may make the root first
]

INSTALL = """
set -e
python3 -m venv /tmp/venv
export PATH=/tmp/venv/bin:$PATH
pip install -q --no-index --find-links /mnt vccid
"""
SIGN = "vccid run --generate -- pkcs11-tool --test --login --pin 123456"


@pytest.mark.parametrize("suite", sorted(PYTHON))
def test_pip_install_and_a_card_signs(suite: str, pip_packages: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(container.dependencies(suite), index)
    for file in pip_packages.glob("*.whl"):
        shutil.copy(file, index)
    root = container.bare_root(suite)
    there = {path.name for path in (root / "usr/sbin").iterdir()}
    there |= {path.name for path in (root / "usr/bin").iterdir()}
    assert not there & {"cc", "gcc", "pcscd"}, "it has less than most containers"
    done = container.run(root, index, ["bash", "-c", f"{INSTALL}{SIGN}"], timeout=300)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["No errors"]), done.stdout
