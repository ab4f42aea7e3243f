# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ordinary user at a shell, who calls `vccid run`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.peers.daemon import BIN, PATIENCE

NOBODY = 65534
BECOME_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


class User:
    """Somebody at a shell, with a home and a folder for temporary files.

    Attributes:
        home: the home, and the working directory.
        temporary: TMPDIR; nothing may stay in it.
    """

    def __init__(self, directory: Path, uid: int) -> None:
        self.uid = uid
        self.home = directory / "home"
        self.temporary = directory / "tmp"
        for path in (directory, self.home, self.temporary):
            path.mkdir(exist_ok=True)
            os.chown(path, uid, uid)
        kept = {k: v for k, v in os.environ.items() if k not in ("XDG_RUNTIME_DIR", "VCCID_SOCKET")}
        self.env = {
            **kept,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PATH": f"{BIN}:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
        }

    def start(
        self,
        *arguments: str | Path,
        wrapper: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """`vccid` with arguments, in a process group of its own."""
        becoming = [] if self.uid == os.geteuid() else BECOME_NOBODY
        return subprocess.Popen(
            [*wrapper, *becoming, "vccid", *map(str, arguments)],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env={**self.env, **(env or {})},
            process_group=0,
        )

    def run(
        self,
        *arguments: str | Path,
        wrapper: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The same to its end, which must leave nothing behind."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        process = self.start(*arguments, wrapper=wrapper, env=env, stdin=stdin)
        with ended(process):
            out, error = process.communicate(input, timeout=60)
        assert self.left_over() == []
        return subprocess.CompletedProcess(arguments, process.returncode, out, error)

    def say(self, *arguments: str | Path, input: str | None = None) -> str:
        """What a `vccid run` that must succeed printed."""
        done = self.run(*arguments, input=input)
        assert done.returncode == 0, f"{done.returncode}\n{done.stdout}{done.stderr}"
        assert "vccid:" not in done.stderr
        return done.stdout

    def left_over(self) -> list[str]:
        """Files in TMPDIR, and processes that know of it."""
        found = [str(path) for path in self.temporary.iterdir()]
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.fsencode(f"{self.temporary}/") in (process / "cmdline").read_bytes():
                    found.append(process.name)
        return found

    def wait_for_nothing_left(self) -> None:
        wait_for(lambda: self.left_over() == [], self.left_over)


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End it however the block ends."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)


@contextlib.contextmanager
def temporary_user(uid: int) -> Iterator[User]:
    directory = Path(f"/tmp/run-{os.getpid()}-{time.monotonic_ns()}")
    directory.mkdir()
    try:
        yield User(directory, uid)
    finally:
        shutil.rmtree(directory)
