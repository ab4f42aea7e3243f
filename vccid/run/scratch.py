# SPDX-License-Identifier: LGPL-2.1-or-later
"""The temporary folder of one `vccid run`."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vccid.errors import RunFailed

#: What to do where there is none, or too little room in it.
HINT: Final = "name a folder with room: TMPDIR=DIRECTORY vccid run"

#: A folder whose path pcscd's reader.conf(5) takes, short enough for a socket's.
_FIT: Final = re.compile(r"/[A-Za-z0-9=/._@:-]{1,60}")

#: Processes, files and memory, of which there is room in no folder.
_LIMITS: Final = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_PREFIX: Final = "vccid-run."


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new folder, ours alone; the keeper removes it too, in case we cannot.

    Raises:
        RunFailed: there is no place for one.
    """
    directory = _make()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def refused(error: OSError, directory: Path) -> RunFailed:
    """What an error says that came of a file in a folder, or of a limit."""
    reason = error.strerror or str(error)
    if error.errno in _LIMITS:
        return RunFailed(f"no more can be had: {reason}", "raise the limit (ulimit -a)")
    path = error.filename2 or error.filename or directory  # a write's does not name it
    return RunFailed(f"{path} cannot be written: {reason}", HINT)


def _make() -> Path:
    refused = []
    for place in _places():
        try:
            directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        except OSError as error:
            refused.append(f"{place}: {error.strerror}")
            continue
        try:
            _try_out(directory)
        except OSError as error:
            refused.append(f"{place}: {error.strerror}")
            shutil.rmtree(directory, ignore_errors=True)
            continue
        return directory
    raise RunFailed(f"there is no folder for temporary files: {'; '.join(refused)}", HINT)


def _places() -> list[str]:
    named = [
        os.environ.get("TMPDIR", ""),
        "/tmp",
        "/var/tmp",
        os.environ.get("XDG_RUNTIME_DIR", ""),
    ]
    return [place for place in dict.fromkeys(named) if _FIT.fullmatch(place)]


def _try_out(directory: Path) -> None:
    """A folder can be made on many a full disk."""
    file = directory / "try"
    file.write_bytes(b"room")
    file.unlink()


def is_one(directory: Path) -> bool:
    """Whether this is such a folder, and ours.

    Raises:
        OSError: that is not to be seen from here.
    """
    try:
        about = directory.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()
    return ours and directory.name.startswith(_PREFIX)
