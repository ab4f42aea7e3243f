# SPDX-License-Identifier: LGPL-2.1-or-later
"""Containers as CI services have them, of a Debian with little in it, and what pip brings there.

Roots are kept by what made them and never written to; mounts and processes are in namespaces of
the command's own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.debian_mirror import apt_sources, cache_of, locked
from tests.fresh.root import PYTHON

CONTAIN = Path(__file__).with_name("contain")
#: No compiler, no pcscd, and of Python what Debian's own venv needs. OpenSC asks for libpcsclite by
#: way of pcscd only, which it recommends.
PACKAGES: Final = "python3,python3-venv,opensc,libpcsclite1"
#: What `pip install vccid` asks an index for, and setuptools to build the one that has no wheel.
WHEELS: Final = ("cryptography", "click", "rich", "setuptools", "wheel")
SDISTS: Final = ("sdnotify",)
KEEP_UNUSED_SECONDS: Final = 14 * 86400


def bare_root(suite: str) -> Path:
    """The root of a Debian with `PACKAGES`, made now if it is not there."""
    return _kept(f"bare-{suite}", f"{suite} {PACKAGES}", lambda target: _debootstrap(suite, target))


def dependencies(suite: str) -> Path:
    """A folder with what vccid needs for a Debian's Python, in its newest versions.

    Fetched by this host's pip, which knows from where.
    """
    wanted = f"{suite} {WHEELS} {SDISTS} {time.strftime('%Y-%W')}"
    return _kept(f"pip-{suite}", wanted, lambda target: _download(suite, target))


def run(
    root: Path, given: Path, command: Sequence[str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command in a root, with the folder `given` as /mnt; stderr is in stdout."""
    with tempfile.TemporaryDirectory(prefix="vccid-contain-") as stage:
        return subprocess.run(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"),
                *(CONTAIN, root, stage, given, *command),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=timeout, check=False,
        )  # fmt: skip


def _kept(name: str, made_of: str, make: object) -> Path:
    assert callable(make)
    folder = cache_of("dist")
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(made_of.encode() + Path(__file__).read_bytes()).hexdigest()[:12]
    target = folder / f"{name}-{key}"
    with locked(folder / "lock"):
        for old in folder.glob(f"{name}-*"):
            if old != target and old.stat().st_mtime < time.time() - KEEP_UNUSED_SECONDS:
                shutil.rmtree(old)
        if not target.is_dir():
            staged = folder / f"{name}.new"
            shutil.rmtree(staged, ignore_errors=True)
            make(staged)
            staged.rename(target)
        os.utime(target)
    return target


def _debootstrap(suite: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="vccid-sources-") as scratch:
        # In a mount namespace, lest its mounts stay where it is killed.
        subprocess.run(
            [
                *("unshare", "--mount", "mmdebstrap", "--quiet", "--mode=root"),
                *("--variant=minbase", '--aptopt=Apt::Install-Recommends "false"'),
                *("--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*"),
                *("--dpkgopt=path-exclude=/usr/share/doc/*", f"--include={PACKAGES}"),
                *(suite, str(target), *apt_sources(suite, Path(scratch))),
            ],
            stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip


def _download(suite: str, target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-q", "-d", str(target)]
    binary = ["--only-binary=:all:", "--python-version", PYTHON[suite]]
    subprocess.run([*pip, *binary, *WHEELS], stdin=subprocess.DEVNULL, check=True)
    source = ["--no-deps", "--no-binary=:all:", "--no-build-isolation"]
    subprocess.run([*pip, *source, *SDISTS], stdin=subprocess.DEVNULL, check=True)
