# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket's file, and the lock that keeps a second daemon off a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
from pathlib import Path
from typing import Final

from vccid.control.callers import group_id
from vccid.errors import ConfigError, DaemonRunning, VccidError

#: Connections the kernel keeps waiting; the loop takes them in one go.
BACKLOG: Final = 128

_ELSEWHERE: Final = "name another place: vccid --runtime-directory DIRECTORY"

#: What a lock holds: the pid of who has it, or had it last.
_LOCK_CONTENT: Final = re.compile(rb"([0-9]{1,10}\n?)?")


class InstanceLock:
    """Held for as long as the daemon runs; the kernel lets go of it however that ends."""

    def __init__(self, *directories: Path) -> None:
        """Take the lock of each; one that is another by a link, or given twice, counts once.

        Raises:
            DaemonRunning: another daemon has one.
            ConfigError: a lock's file cannot be made.
        """
        held: dict[tuple[int, int], int] = {}
        try:
            for directory in directories:
                fd = _open_lock(directory)
                status = os.fstat(fd)
                if held.setdefault((status.st_dev, status.st_ino), fd) != fd:
                    os.close(fd)  # flock(2): a file opened twice would be locked against itself
                else:
                    _lock(fd, directory)
        except VccidError:
            for fd in held.values():
                os.close(fd)
            raise
        self._held = tuple(held.values())


def _open_lock(directory: Path) -> int:
    path = directory / "lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be made: {error.strerror}",
            f"{directory} must belong to the daemon's user",
        ) from error
    is_file = stat.S_ISREG(os.fstat(fd).st_mode)
    if not is_file or not _LOCK_CONTENT.fullmatch(os.pread(fd, 20, 0)):
        os.close(fd)
        raise ConfigError(
            f"{path} is in the way: it is no lock of vccid's",
            "move it elsewhere, or name another directory (vccid --help)",
        )
    return fd


def _lock(fd: int, directory: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        raise DaemonRunning(
            f"another vccid (pid {pid or 'unknown'}) uses {directory}",
            "stop it first, or give this one directories of its own (vccid --help)",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{directory / 'lock'} cannot be locked: {error.strerror}",
            "name a directory on a file system that has locks",
        ) from error
    # The pid only helps a message: a full disk must not keep the daemon from starting.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def make_socket(path: Path, hint: str = _ELSEWHERE) -> socket.socket:
    """Listen at `path`, for our own user alone until `share` says otherwise.

    Whoever holds the `InstanceLock` may replace a socket that a killed daemon left behind.

    Args:
        hint: what to do where it cannot be made.

    Raises:
        ConfigError: the path is too long for a socket, or cannot be made, or something else is
            there, or somebody listens there.
    """
    _make_way(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)  # "AF_UNIX path too long" comes without errno
        raise ConfigError(f"socket {path} cannot be made: {reason}", hint) from error
    finally:
        os.umask(umask)
    return listening


def _make_way(path: Path) -> None:
    """Remove a socket that nobody listens at any more, and nothing else."""
    hint = f"move it elsewhere, or {_ELSEWHERE}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"{path} is in the way: it is no socket", hint)
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody listens
        raise ConfigError(f"another program listens at {path}", hint)


def share(path: Path, group: str, mode: int) -> None:
    """Let a group connect, where it exists and we may give it the socket.

    Raises:
        ConfigError: the mode cannot be set.
    """
    gid = group_id(group)
    try:
        if gid is not None and gid != path.stat().st_gid:
            try:
                os.chown(path, -1, gid)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL):
                    raise
                # Only a member may give a file to a group, and only to one that the user
                # namespace knows (EINVAL); else it stays our own user's.
                mode &= ~0o070
        path.chmod(mode)
    except OSError as error:
        raise ConfigError(
            f"control socket {path} cannot be shared: {error.strerror}",
            f"{path.parent} must belong to the daemon's user",
        ) from error
