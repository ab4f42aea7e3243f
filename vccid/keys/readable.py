# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the daemon's own user can read a path, told before a library hides the reason."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Final

from vccid.errors import SourceUnusable

#: The modes were looked at before.
_CONFINED: Final = (
    "its modes allow it, so AppArmor does not: give it the suffix of what it is (.pem, .p12 ...),"
    " or allow its path in /etc/apparmor.d/local/vccid"
)
#: More than any certificate, key or PKCS#12 file has, in bytes.
MAX_FILE_SIZE: Final = 1 << 20


def user_name(uid: int) -> str:
    """A user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _own_group() -> str:
    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())


def require_access(path: Path) -> None:
    """Check that this process may read a file, or list and enter a folder.

    Raises:
        FileNotFoundError: it is not there.
        SourceUnusable: it is there, and a mode is in the way.
    """
    for folder in reversed(path.absolute().parents):
        if folder.is_dir() and not os.access(folder, os.X_OK, effective_ids=True):
            raise _denied(folder, "entered")
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode) and not os.access(path, os.R_OK | os.X_OK, effective_ids=True):
        raise _denied(path, "read")
    if not os.access(path, os.R_OK, effective_ids=True):
        raise _denied(path, "read")


def _denied(path: Path, verb: str) -> SourceUnusable:
    """The message for a path whose mode is in the way, and the commands that open it up."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    letters = "x" if verb == "entered" else "rx" if stat.S_ISDIR(status.st_mode) else "r"
    group = _own_group()
    return SourceUnusable(
        f"{path} cannot be {verb} by user {user_name(os.geteuid())}"
        f" (mode {mode:04o}, owner {user_name(status.st_uid)})",
        f"allow its group: chgrp {group} {path} && chmod g+{letters} {path}",
    )


def read_small_file(path: Path, what: str) -> bytes:
    """The whole of a regular file of at most MAX_FILE_SIZE bytes.

    Args:
        what: what the file is to the user, for messages: "certificate file".

    Raises:
        SourceUnusable: missing, unreadable, no regular file, or too large.
    """
    try:
        require_access(path)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SourceUnusable(f"{path} is no file")
        if status.st_size > MAX_FILE_SIZE:
            raise SourceUnusable(f"{path} is too large for a {what}: {status.st_size} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise SourceUnusable(
            f"{what} {path} does not exist", "give its full path, as the daemon sees it"
        ) from None
    except OSError as error:
        raise SourceUnusable(
            f"{what} {path} cannot be read: {error.strerror}",
            _CONFINED if isinstance(error, PermissionError) else "",
        ) from None
