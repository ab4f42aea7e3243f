# SPDX-License-Identifier: LGPL-2.1-or-later
"""A socket's file, which may be another's by the time it is removed.

A directory that was emptied has no lock any more, and the next daemon makes its sockets there.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


class OwnFile:
    """A file that was just made."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            OSError: it is gone already.
        """
        status = path.lstat()
        self._path = path
        self._identity = status.st_dev, status.st_ino

    def remove(self) -> None:
        """Remove it, unless it is gone or another stands in its place. May be repeated."""
        with contextlib.suppress(FileNotFoundError):
            status = self._path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:
                self._path.unlink()
