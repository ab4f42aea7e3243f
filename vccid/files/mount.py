# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mounting and unmounting, with fusermount3: the one privileged step, and it is setuid root.

Source: fusermount3(1), mount.fuse3(8), proc(5) on mountinfo; libfuse, util/fusermount.c.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vccid.errors import VccidError

#: How the file system is called in /proc/mounts: its source, and fuse.SUBTYPE as its type.
NAME: Final = "vccid"
TYPE: Final = f"fuse.{NAME}"

#: Bytes of one read; an answer fits the channel's socket whatever its buffer is.
_MAX_READ: Final = 65536
_OPTIONS: Final = (
    *("ro", "nosuid", "nodev", "noexec", "default_permissions"),
    *(f"fsname={NAME}", f"subtype={NAME}", f"max_read={_MAX_READ}"),
)
#: Waits until its standard input ends, and unmounts what is dead then. fusermount3 has an option
#: for it, auto_unmount, but up to 3.14 at least it cannot look into an ordinary user's mount.
_GUARD: Final = 'read -r _; [ -d "$1" ] || exec "$2" -u -z -q -- "$1"'
_PATIENCE: Final = 10.0
_INT: Final = struct.Struct("i")
_DEVICE: Final = Path("/dev/fuse")
_USUAL_PATH: Final = "/usr/bin:/bin"


class MountFailed(VccidError):
    """The directory cannot be the file view's; the message says why."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mounted file system.

    Attributes:
        directory: where.
        device: the open /dev/fuse that serves it.
    """

    directory: Path
    device: int
    _guard: subprocess.Popen[bytes]

    def close(self) -> None:
        """Let go of it: if it is mounted still, with its device closed, it is unmounted."""
        with suppress(subprocess.TimeoutExpired):
            self._guard.communicate(timeout=_PATIENCE)


def prepare(directory: Path) -> Path:
    """Look whether a directory can be mounted on; a dead file view there is cleared away.

    Returns:
        Its absolute path.

    Raises:
        MountFailed: it cannot, or what mounting needs is not there.
    """
    fusermount3()
    _check_device()
    # Only its parent: the directory itself may be a dead mount, which nothing can look into.
    place = Path(os.path.abspath(directory))
    place = Path(os.path.realpath(place.parent)) / place.name
    kind = mounted_there(place)
    if kind == TYPE and _is_dead(place):
        unmount(place)
        kind = mounted_there(place)
    if kind == TYPE:
        raise MountFailed(
            f"the readers are mounted at {place} already",
            f"unmount it first: fusermount3 -u {place}",
        )
    if kind is not None:
        raise MountFailed(
            f"something else is mounted at {place} ({kind})", "name an empty directory"
        )
    _check_directory(place)
    return place


def mount(directory: Path, allow_other: bool = False) -> Mounted:
    """Mount.

    Args:
        directory: as `prepare` returned it.
        allow_other: let every user look in, not only the one who mounts.

    Raises:
        MountFailed: fusermount3 or the kernel does not let us.
    """
    options = ",".join((*_OPTIONS, *(("allow_other",) if allow_other else ())))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [fusermount3(), "-o", options, "--", os.fspath(directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno()), "LC_ALL": "C"},
            timeout=_PATIENCE,
            check=False,
        )
        device = _received(ours)
    if device is None:
        raise _refused(directory, done.stderr.decode(errors="replace"))
    return Mounted(directory, device, _start_guard(directory))


def unmount(directory: Path) -> bool:
    """Unmount, also while files are open there; returns whether that went well."""
    done = subprocess.run(
        [fusermount3(), "-u", "-z", "-q", "--", os.fspath(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_PATIENCE,
        check=False,
    )
    return done.returncode == 0


def mounted_there(directory: Path) -> str | None:
    """The type of the file system whose root a directory is, or None."""
    kind = None
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if _unescaped(before.split(" ")[4]) == os.fspath(directory):
            kind = after.split(" ")[0]  # the last one is on top
    return kind


def fusermount3() -> str:
    """Its path.

    Raises:
        MountFailed: it is not installed.
    """
    path = os.environ.get("PATH", _USUAL_PATH)
    found = shutil.which("fusermount3", path=f"{path}:{_USUAL_PATH}")
    if found is None:
        raise MountFailed("fusermount3 is missing, which mounts", "as root: apt install fuse3")
    return found


def _check_device() -> None:
    if not os.path.lexists(_DEVICE):
        raise MountFailed(
            f"there is no {_DEVICE}",
            "as root: modprobe fuse; in a container it has to be let in (--device /dev/fuse)",
        )
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        raise MountFailed(
            f"{_DEVICE} is closed to you",
            "as root: chmod 0666 /dev/fuse, which is its mode where udev makes it",
        )


def _check_directory(place: Path) -> None:
    try:
        entries = os.listdir(place)
    except FileNotFoundError:
        raise MountFailed(f"there is no directory {place}", f"mkdir {place}") from None
    except OSError as error:
        raise MountFailed(
            f"{place} cannot be mounted on: {error.strerror}", "name an empty directory of yours"
        ) from error
    if entries:
        raise MountFailed(
            f"{place} is not empty, and a mount would hide what is in it",
            "name an empty directory",
        )
    if not os.access(place, os.W_OK):
        raise MountFailed(
            f"{place} is not yours to mount on", "name an empty directory that you may write to"
        )


def _is_dead(place: Path) -> bool:
    """Whether nobody serves it any more (ENOTCONN). EACCES: another user's, and alive."""
    try:
        os.stat(place)
    except OSError as error:
        return not isinstance(error, PermissionError)
    return False


def _start_guard(directory: Path) -> subprocess.Popen[bytes]:
    """Unmounts when we are gone, however we went."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "vccid-unmount", os.fspath(directory), fusermount3()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # a terminal's Ctrl-C is for us alone
    )


def _received(ours: socket.socket) -> int | None:
    """The open device that fusermount3 has sent, if it has."""
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC  # which recv_fds passes on to nobody
    with suppress(BlockingIOError):
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_LEN(_INT.size), flags)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                return int(_INT.unpack(data)[0])
    return None


def _refused(directory: Path, said: str) -> MountFailed:
    """What fusermount3 said, and what to do about it."""
    lines = [line.removeprefix("fusermount3: ") for line in said.splitlines()]
    message = f"{directory} cannot be mounted on: {lines[-1] if lines else 'fusermount3 failed'}"
    if "user_allow_other" in said:
        return MountFailed(
            f"{directory} cannot be shown to other users: this system does not let users do so",
            "as root: write the line user_allow_other into /etc/fuse.conf",
        )
    if _no_new_privileges():
        return MountFailed(
            message,
            "no program started from here may gain privileges (NoNewPrivileges), as fusermount3 "
            "must: mount from outside, as vccid-files.service does",
        )
    return MountFailed(message, "fusermount3(1) says what it needs; is it setuid root?")


def _no_new_privileges() -> bool:
    with suppress(OSError):
        return "\nNoNewPrivs:\t1\n" in Path("/proc/self/status").read_text()
    return False


def _unescaped(field: str) -> str:
    """proc(5): space, tab, newline and backslash are octal in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
