# SPDX-License-Identifier: LGPL-2.1-or-later
"""yubikey-manager's own tests of PIV, those of its library and of its command line.

Its source package is fetched by pip, and installed where nothing else is.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest

from tests.upstream.ledger import Results, check

VERSION: Final = "5.9.2"
SERIAL: Final = "12345678"
VCCID: Final = Path(sys.executable).with_name("vccid")

_NO_FIPS: Final = "no double of the FIPS series"
_NO_COMPLEXITY: Final = "no double of a key with rules for PINs"

#: In both versions.
COMMON: Final = {
    "Requires YK4 FIPS": (3, _NO_FIPS),
    "PIN complexity": (10, _NO_COMPLEXITY),
    "YubiKey Bio": (1, "no double of one with fingerprints"),
    r"Version > \(5, 2, 9\)": (2, "of older versions alone"),
    "ROCA": (3, "of older versions alone"),
}
#: What the versions leave out besides.
LEFT_OUT: Final = {
    "yubikey-5.4": {
        **COMMON,
        "requires YubiKey 5.7": (17, "of later versions alone"),
        r"Version < \(5, 7, 0\)": (2, "of later versions alone"),
    },
    "yubikey-5.7": {**COMMON},
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source, with a `venv` beside it that has what its tests need."""
    directory = tmp_path_factory.mktemp("ykman")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    name = f"yubikey-manager=={VERSION}"
    subprocess.run(
        [*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", str(directory), name],
        check=True,
    )
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(directory, filter="data")
    venv = directory / "venv"
    # pyscard is Debian's.
    subprocess.run(
        ["/usr/bin/python3", "-m", "venv", "--system-site-packages", str(venv)], check=True
    )
    root = directory / f"yubikey_manager-{VERSION}"
    subprocess.run(
        [str(venv / "bin/pip"), "-q", "install", str(root), "makefun", "pytest<10"], check=True
    )
    return root


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("profile", LEFT_OUT)
def test_piv(suite: Path, tmp_path: Path, profile: str) -> None:
    report = tmp_path / "report.xml"
    python = suite.parent / "venv/bin/python"
    done = subprocess.run(
        [
            VCCID, "run", "--card", "piv", "--profile", profile, "--serial", SERIAL, "--",
            python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}",
            "tests/device/test_piv.py", "tests/device/cli/piv", "--device", SERIAL,
        ],
        cwd=suite, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    results = Results(report)
    check(results, LEFT_OUT[profile])
    assert len(results.passed) >= 144
