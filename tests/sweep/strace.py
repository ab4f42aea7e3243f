# SPDX-License-Identifier: LGPL-2.1-or-later
"""strace(1): which calls a process makes to files, and one of them going wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: What changes files, and what makes a change last.
CALLS: Final = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "fchmod", "chmod",
    "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "link", "linkat",
)  # fmt: skip

#: `123  fsync(7</state/cards/x.new>) = 0`, or the beginning of it.
_LINE: Final = re.compile(r"^(\d+) +(\w+)\((.*)")
_PATH: Final = re.compile(r'"([^"]+)"|<([^>]+)>')


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a process.

    Attributes:
        name: the system call's.
        number: of such calls in its thread, from 1.
        what: the file it is about, for people.
    """

    name: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.name} {self.number} ({self.what})"


class Strace:
    """strace, attached to a process for as long as the block lasts."""

    def __init__(self, pid: int, log: Path, options: Sequence[str]) -> None:
        """`options`: what it looks for, and what it does then."""
        self._command = ["strace", "-f", "-y", "-p", str(pid), "-o", str(log), *options]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "attached" in line:
                return self
        raise RuntimeError(f"strace attached to nothing: {self._process.wait()}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.communicate()


def missing() -> str:
    """Why it cannot be used here, or ""."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-o", "/dev/null", "true"], capture_output=True, check=False, text=True
    )
    return tried.stderr.strip() if tried.returncode else ""


def seen(log: Path, below: Path) -> tuple[list[Call], set[str]]:
    """The calls about files below a folder, in order, and those files."""
    counts: Counter[tuple[str, str]] = Counter()
    calls, files = [], set()
    for line in log.read_text(errors="replace").splitlines():
        matched = _LINE.match(line)
        if matched is None or matched[2] not in CALLS:
            continue
        paths = [one or other for one, other in _PATH.findall(matched[3])]
        ours = [path for path in paths if path.startswith(str(below))]
        if not ours:
            continue
        files.update(ours)
        thread, name = matched[1], matched[2]
        counts[thread, name] += 1
        calls.append(Call(name, counts[thread, name], str(Path(ours[0]).relative_to(below))))
    return calls, files


def looking(files: Iterable[str]) -> list[str]:
    """Options: look at the calls about these files alone; all files' where there are none."""
    paths = [word for file in sorted(files) for word in ("-P", file)]
    return [*paths, "-e", f"trace={','.join(f'?{name}' for name in CALLS)}"]


def fault(call: Call, kind: str) -> list[str]:
    """Options: have that call go wrong; `kind` is an error's name, or KILL."""
    how = "signal=KILL" if kind == "KILL" else f"error={kind}"
    return ["-e", f"inject={call.name}:{how}:when={call.number}"]
