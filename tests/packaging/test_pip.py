# SPDX-License-Identifier: LGPL-2.1-or-later
"""`pip install vccid` where CI jobs run: as an ordinary user, with no pcscd and no compiler."""

from __future__ import annotations

import ctypes
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.fresh.root import PYTHON, missing
from vccid import __version__

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


def test_what_is_compiled_is_in_a_wheel_of_its_own(pip_packages: Path, tmp_path: Path) -> None:
    (pure,) = pip_packages.glob("vccid-*.whl")
    (driver,) = pip_packages.glob("vccid_pcscd-*.whl")
    assert pure.name == f"vccid-{__version__}-py3-none-any.whl"
    assert driver.name.startswith(f"vccid_pcscd-{__version__}-py3-none-manylinux_2_")
    with zipfile.ZipFile(pure) as wheel:
        assert not [name for name in wheel.namelist() if name.endswith(".so")]
    with zipfile.ZipFile(driver) as wheel:
        library = wheel.extract("vccid_pcscd/libifdvccid.so", tmp_path)
    assert ctypes.CDLL(library).IFDHCreateChannelByName
