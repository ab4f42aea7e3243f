# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `./dev` builds of this checkout for others, once for all tests here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def build(verb: str, directory: Path) -> Path:
    """Have `./dev VERB` write into a directory."""
    done = subprocess.run(
        [CHECKOUT / "dev", verb, directory],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return directory


@pytest.fixture(scope="session")
def pip_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with sdist and wheels."""
    return build("dist", tmp_path_factory.mktemp("dist") / "out")
