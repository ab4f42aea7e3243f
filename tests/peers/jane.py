# SPDX-License-Identifier: LGPL-2.1-or-later
"""An ordinary user with a daemon of her own and a directory where its readers can be mounted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.peers.daemon import Daemon
from tests.peers.user import BECOME_NOBODY, NOBODY, User, wait_for

ROOT = Path(__file__).resolve().parents[2]
DEVICE = Path("/dev/fuse")


def missing() -> str:
    """What this machine lacks for it, or nothing."""
    if os.geteuid() != 0:
        return "becomes another user, which takes root"
    try:
        os.close(os.open(DEVICE, os.O_RDWR))
    except OSError as error:
        return f"mounts with FUSE, and {DEVICE} cannot be opened: {error.strerror}"
    return ""


class Jane(User):
    """She has the user id nobody.

    Attributes:
        daemon: hers, started.
        here: her directory to mount on.
    """

    def __init__(self, directory: Path, settings: str = "") -> None:
        """`settings` is her daemon's vccid.toml; HERE in it becomes the directory's path."""
        super().__init__(directory, NOBODY)
        self.here = self.home / "cards"
        self.here.mkdir()
        os.chown(self.here, NOBODY, NOBODY)
        settings = settings.replace("HERE", str(self.here))
        self.daemon = Daemon(directory / "vccid", settings=settings, user=NOBODY)
        self.env["VCCID_SOCKET"] = str(self.daemon.control)
        self.daemon.start()

    def sh(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A shell command in her home."""
        return self._to_its_end([*BECOME_NOBODY, "sh", "-c", command], check)

    def sh_apart(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One that root begins where its mounts are its own; $JANE makes one hers."""
        return self._to_its_end(["unshare", "--mount", "sh", "-ec", command], check)

    def look(self, function: str, *arguments: object) -> Any:
        """What one of tests/peers/look.py returns to her."""
        given = json.dumps([str(self.daemon.control), str(self.here), *arguments])
        command = [sys.executable, "-m", "tests.peers.look", function, given]
        return json.loads(self._to_its_end([*BECOME_NOBODY, *command], True, ROOT).stdout)

    def cat(self, name: str) -> subprocess.Popen[str]:
        """A cat that has opened one of the files."""
        return self._who_opens(name, ["cat", str(self.here / name)])

    def shell_with(self, name: str, command: str) -> subprocess.Popen[str]:
        """A shell's command that has one of the files open as its descriptor 3."""
        return self._who_opens(name, ["sh", "-c", f"exec 3<{self.here / name} && {command}"])

    def mount(self) -> None:
        """Mount, and see that there is something."""
        self.sh(f"vccidctl mount {self.here} && cat {self.here}/vccid0/state")

    def mounts(self) -> list[str]:
        """Lines of /proc/mounts of the directory."""
        lines = Path("/proc/mounts").read_text().splitlines()
        return [line for line in lines if line.split(" ")[1] == str(self.here)]

    def wait_for_mounts(self, number: int) -> None:
        wait_for(lambda: len(self.mounts()) == number, self.mounts)

    def view(self) -> list[int]:
        """Process ids of those that serve the files."""
        return self._processes(b"mount")

    def kill_guard(self) -> None:
        """End the shell that unmounts when the view is killed, before it can."""
        (guard,) = self._processes(b"vccid-unmount")
        os.kill(guard, signal.SIGKILL)

    def close(self) -> None:
        """End all; nothing stays mounted."""
        try:
            self.daemon.stop()
            wait_for(lambda: self.view() == [], self.view)
        finally:
            for _ in self.mounts():
                subprocess.run(["umount", "--lazy", self.here], check=True)

    def _who_opens(self, name: str, command: list[str]) -> subprocess.Popen[str]:
        path = str(self.here / name)
        process = subprocess.Popen(
            [*BECOME_NOBODY, *command],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: path in opened_by(process.pid), process.poll)
        return process

    def _processes(self, word: bytes) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if word in words and os.fsencode(self.here) in words:
                    found.append(int(process.name))
        return found

    def _to_its_end(
        self, command: list[str], check: bool, directory: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=directory or self.home,
            env={**self.env, "JANE": " ".join(BECOME_NOBODY)},
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{done}\n{self.daemon.printed()}"
        return done


def opened_by(pid: int) -> list[str]:
    """Paths of the files a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(link))
    return found


@contextlib.contextmanager
def jane_with(settings: str = "") -> Iterator[Jane]:
    """Jane; her directory is one that other users reach, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="vccid-files-"))
    directory.chmod(0o755)
    try:
        with contextlib.closing(Jane(directory, settings)) as jane:
            yield jane
    finally:
        shutil.rmtree(directory)
