# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian packages of this checkout, as `./dev deb` builds them, and as an older version."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
BUILD_TIMEOUT_SECONDS = 300


def build(directory: Path, environment: Mapping[str, str] = {}, umask: int = 0o022) -> None:
    """Build into `directory`."""
    done = subprocess.run(
        [CHECKOUT / "dev", "deb", directory],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        umask=umask,
        timeout=BUILD_TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")


def make_older(packages: Path, directory: Path) -> None:
    """The same packages with a version before their own, and a module that is no more."""
    for package in packages.glob("*.deb"):
        tree = directory / package.stem
        subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
        control = tree / "DEBIAN" / "control"
        text = re.sub(r"(?m)^Version: (.*)$", r"Version: \1~previous", control.read_text())
        control.write_text(text)
        modules = tree / "usr/lib/python3/dist-packages/vccid"
        if modules.is_dir():
            (modules / "of_yore.py").write_text('"""What the next version does without."""\n')
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", tree, directory],
            check=True,
            stdout=subprocess.DEVNULL,
        )
