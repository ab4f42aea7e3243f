# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may control the daemon: root, the daemon's own user, and one group's members.

Source: unix(7), SO_PEERCRED; SO_PEERGROUPS of <asm-generic/socket.h>, Linux 4.13.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final, Protocol

from vccid.errors import NotPermitted
from vccid.links import user_names

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid
_SO_PEERGROUPS: Final = 59
_GID_BYTES: Final = 4
_MOST_BYTES: Final = 1024  # what Python's getsockopt takes: 256 groups
_MOST_GROUPS: Final = 65536  # NGROUPS_MAX

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Socket(Protocol):
    """What asyncio and uvloop both give for a connection's socket."""

    def fileno(self) -> int: ...

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as the kernel noted it at that moment.

    Attributes:
        pid: its process id, 0 where it lives in another namespace.
        uid: its user id.
        gids: its group ids.
    """

    pid: int
    uid: int
    gids: frozenset[int]

    def __str__(self) -> str:
        return f"pid {self.pid}, {_user(self.uid)}"


def peer_of(connection: _Socket) -> Peer:
    """Who is at the other end of a connected unix socket."""
    pid, uid, gid = _UCRED.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return Peer(pid, uid, frozenset((gid, *_supplementary(connection))))


def _supplementary(connection: _Socket) -> tuple[int, ...]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        raw = _many_groups(connection.fileno())
    return struct.unpack(f"{len(raw) // _GID_BYTES}I", raw)


def _many_groups(fd: int) -> bytes:
    """As getsockopt(2) itself has them, with room for all that a process can be in."""
    groups = ctypes.create_string_buffer(_GID_BYTES * _MOST_GROUPS)
    length = ctypes.c_uint32(len(groups))
    if _libc.getsockopt(fd, socket.SOL_SOCKET, _SO_PEERGROUPS, groups, ctypes.byref(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return groups.raw[: length.value]


class Access:
    """The rule, with the group looked up once."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.gid = group_id(group)

    def admits(self, peer: Peer) -> bool:
        """Whether it is root, our own user, or in the group."""
        return peer.uid in (0, os.geteuid()) or (self.gid is not None and self.gid in peer.gids)

    def check(self, peer: Peer) -> None:
        """Let a peer pass.

        Raises:
            NotPermitted: it is neither root nor our own user nor in the group.
        """
        if self.admits(peer):
            return
        who = _user(peer.uid)
        message = f"{who} may not control vccid: not a member of group {self.group}"
        if self.gid is None:
            raise NotPermitted(
                f"{message}, which does not exist",
                f"as root: groupadd --system {self.group}, add the user to it, restart vccid",
            )
        raise NotPermitted(
            message,
            f"as root: usermod -aG {self.group} {who.removeprefix('user ')}; then log in again",
        )


def group_id(name: str) -> int | None:
    """A group's id, or None where there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _user(uid: int) -> str:
    return f"user {user_names.names.get(uid)}"
