# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where daemon and pcscd log to: a file, or whatever `--log` names."""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vccid.errors import RunFailed

#: Lines that are shown when something failed.
_TAIL: Final = 15

#: Names of descriptors that are open already; opening a pipe or socket by one of them may fail.
_STREAMS: Final = {"/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR: Final = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


@dataclass(frozen=True, slots=True)
class Log:
    """An open log.

    Attributes:
        fd: to be written to.
        before: bytes in it that were there before.
    """

    fd: int
    before: int

    @classmethod
    def open(cls, path: Path) -> Log:
        """Open it to add to it.

        Raises:
            RunFailed: it cannot be had.
        """
        try:
            fd = _open(os.fspath(path))
        except OSError as error:
            reason = error.strerror
            if error.errno == errno.ENXIO:
                reason = "nobody reads it"
            raise RunFailed(f"--log {path}: {reason}", "name a file that can be written") from error
        return cls(fd, os.fstat(fd).st_size)

    def quoted(self, message: str) -> str:
        """A message, below the last lines that came since it was opened."""
        return "\n".join((*(f"| {line}" for line in self._tail()), message))

    def _tail(self) -> list[str]:
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            return []  # what was written to it has gone
        try:
            with open(f"/proc/self/fd/{self.fd}", encoding="utf-8", errors="replace") as file:
                file.seek(self.before)
                return file.read().splitlines()[-_TAIL:]
        except OSError:
            return []


def _open(path: str) -> int:
    """Never waits: a FIFO has a reader, or cannot be opened."""
    named = _DESCRIPTOR.fullmatch(path)
    number = int(named[1]) if named else _STREAMS.get(path)
    if number is not None:
        return os.dup(number)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    os.set_blocking(fd, True)
    return fd
