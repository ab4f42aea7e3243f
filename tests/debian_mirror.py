# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the machines of tests are made from, Debian's packages, and where they are kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

APT = Path("/etc/apt")


def cache_of(kind: str) -> Path:
    """Where machines of a kind are kept between runs and checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vccid" / kind


@contextlib.contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock file, by flock(2).

    Raises:
        BlockingIOError: LOCK_NB is in `how`, and another holds it.
    """
    with path.open("w") as lock:
        fcntl.flock(lock, how)
        yield


def apt_sources(suite: str, scratch: Path) -> list[str]:
    """This host's own apt sources if it is a Debian, for `suite`; else mmdebstrap's default."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME")
    for name in ("debian.sources", "sources.list"):
        for path in (APT / "sources.list.d" / name, APT / name):
            if own and path.is_file() and own in (text := path.read_text()):
                adapted = scratch / name
                adapted.write_text(text.replace(own, suite))
                return [str(adapted)]
    return []
