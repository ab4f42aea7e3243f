# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bare root of a Debian in which `./dev setup` was run once, and commands of `./dev` in it.

The root is kept by the hash of what made it and never written to; what a command writes is in
memory. Mounts and processes are in namespaces of the command's own and end with it, however it
ends; of the network it sees loopback only.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from tests.debian_mirror import apt_sources, cache_of, locked

CHECKOUT = Path(__file__).resolve().parents[2]
ENTER = Path(__file__).with_name("enter")
#: Debian's releases that vccid is for, and their Python.
PYTHON: Final = {"bookworm": "3.11", "trixie": "3.13"}
KEEP_UNUSED_SECONDS: Final = 2 * 86400

#: In the root: the checkout, and for its setup what pip installs. The host's pip fetched that,
#: which knows from where.
SOURCE = Path("/src")
WHEELS = Path("/wheels")
# Scripts within the root; the checkout's files are their standard input.
_UNPACK = f"set -e; cd {SOURCE}; tar -x; exec </dev/null\n"
_SETUP = f"""{_UNPACK}
echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/unsafe-io
./dev setup
mv .venv /
find . -mindepth 1 -delete
mv /.venv .
apt-get clean
rm -rf {WHEELS} /var/lib/apt/lists/*
"""
_RUN = f"""{_UNPACK}
git init -q
git add -A
ip link set lo up
exec ./dev "$@"
"""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": str(WHEELS),
}


class RootError(Exception):
    """A root cannot be made; the text says why."""


def missing() -> str:
    """What this machine lacks for it, or nothing."""
    if os.geteuid() != 0:
        return "makes a root directory of another Debian, which takes root"
    if len(socket.if_nameindex()) < 2:
        return "makes a root directory of another Debian, which takes more network than loopback"
    tools = [tool for tool in ("mmdebstrap", "unshare") if shutil.which(tool) is None]
    return f"{tools[0]} is missing: run ./dev setup" if tools else ""


def run(suite: str, command: Sequence[str], output: IO[bytes] | None = None) -> int:
    """`./dev COMMAND...` in a fresh machine with this checkout; its exit status.

    Where it has guests, their images are made before, by that machine and with the network.

    Raises:
        RootError: the machine cannot be made.
    """
    with _root(suite) as root:
        if _has_guests(command):
            status = _dev(root, ("vm", "build"), output)
            if status != 0:
                return status
        return _dev(root, command, output, "--net")


def _has_guests(command: Sequence[str]) -> bool:
    """Whether tests/vm is among what `./dev COMMAND...` runs."""
    verb, *arguments = command
    return verb == "vm" or (
        verb == "test" and (not arguments or any(word.startswith("tests/vm") for word in arguments))
    )


def _dev(root: Path, command: Sequence[str], output: IO[bytes] | None, *namespaces: str) -> int:
    images = cache_of("fresh-vm") / root.name.partition("-")[0]
    images.mkdir(parents=True, exist_ok=True)
    argv = _enter(root, ["bash", "-c", _RUN, "bash", *command], *namespaces)
    return _with_checkout(argv, {**_environment(), "FRESH_IMAGES": str(images)}, output)


@contextlib.contextmanager
def _root(suite: str) -> Iterator[Path]:
    """The root of a suite, made now if it is not there, and not removed while it is in use."""
    if problem := missing():
        raise RootError(problem)
    if suite not in PYTHON:
        raise RootError(f"{suite} is none of {', '.join(PYTHON)}")
    directory = cache_of("fresh")
    directory.mkdir(parents=True, exist_ok=True)
    root = directory / f"{suite}-{_key()}"
    lock = root.with_suffix(".lock")
    while True:
        with locked(lock, fcntl.LOCK_SH):  # as many as like use it at once
            if root.is_dir():
                os.utime(root)
                _prune(directory, root)
                yield root
                return
        with locked(lock):
            if not root.is_dir():
                _build(suite, root)


def _key() -> str:
    digest = hashlib.sha256()
    for path in (CHECKOUT / "dev", CHECKOUT / "tests/requirements.txt", Path(__file__), ENTER):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _prune(directory: Path, keep: Path) -> None:
    """Remove roots that no checkout uses any more."""
    oldest = time.time() - KEEP_UNUSED_SECONDS
    for root in directory.glob("*-*[!k]"):
        if root == keep or not root.is_dir() or root.stat().st_mtime > oldest:
            continue
        lock = root.with_suffix(".lock")
        with contextlib.suppress(BlockingIOError), locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(root)
            lock.unlink()


def _build(suite: str, target: Path) -> None:
    staged = target.with_suffix(".new")
    shutil.rmtree(staged, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="vccid-fresh-") as name:
        scratch = Path(name)
        sources = apt_sources(suite, scratch)
        # In a mount namespace, lest its mounts stay where it is killed.
        _checked(
            "unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase",
            '--aptopt=Apt::Install-Recommends "false"', "--include=ca-certificates",
            suite, str(staged), *sources,
        )  # fmt: skip
        (staged / WHEELS.relative_to("/")).mkdir()
        (staged / SOURCE.relative_to("/")).mkdir()
        _checked(
            sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:",
            "--python-version", PYTHON[suite], "-d", str(staged / WHEELS.relative_to("/")),
            "-r", str(CHECKOUT / "tests/requirements.txt"),
        )  # fmt: skip
        with (scratch / "log").open("w+b") as log:
            argv = _enter(staged, ["bash", "-c", _SETUP])
            environment = {**_environment(), "FRESH_WRITE": "yes"}
            if _with_checkout(argv, environment, log) != 0:
                log.seek(0)
                raise RootError(f"./dev setup failed there:\n{_tail(log.read())}")
    staged.rename(target)


def _checked(*command: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        raise RootError(f"{' '.join(command)} failed:\n{_tail(done.stdout)}")


def _tail(output: bytes) -> str:
    return output.decode(errors="replace")[-4000:]


def _enter(root: Path, command: Sequence[str], *namespaces: str) -> list[str]:
    stage = root.parent / "stage"
    stage.mkdir(exist_ok=True)
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", *namespaces, "--fork", "--kill-child"),
        *(str(ENTER), str(root), str(stage)),
        *command,
    ]


def _environment() -> dict[str, str]:
    return {**_ENVIRONMENT, **{k: os.environ[k] for k in ("CI", "TERM") if k in os.environ}}


def _with_checkout(argv: list[str], environment: dict[str, str], output: IO[bytes] | None) -> int:
    """Run a command that reads the checkout's files, as they are now, from a tar stream."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True).stdout
    there = [name for name in names.split(b"\0") if (CHECKOUT / os.fsdecode(name)).is_file()]
    with tempfile.TemporaryFile() as files:
        pack = ["tar", "-c", "--null", "--owner=root", "--group=root", "-T", "-"]
        subprocess.run(pack, cwd=CHECKOUT, input=b"\0".join(there), stdout=files, check=True)
        files.seek(0)
        done = subprocess.run(argv, env=environment, stdin=files, stdout=output, stderr=output)
    return done.returncode
