# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may control the daemon: root, the daemon's own user, and one group's members.

Source: unix(7), SO_PEERCRED; SO_PEERGROUPS of <asm-generic/socket.h>, Linux 4.13.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from typing import Final, Protocol

from vccid.errors import NotPermitted

_UCRED: Final = struct.Struct("3i")  # pid, uid, gid
_SO_PEERGROUPS: Final = 59
_GID_BYTES: Final = 4
_MOST_BYTES: Final = 1024  # what Python's getsockopt takes: 256 groups


class _Socket(Protocol):
    """What asyncio and uvloop both give for a connection's socket."""

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
    return Peer(pid, uid, frozenset((gid, *_supplementary(connection, uid, gid))))


def _supplementary(connection: _Socket, uid: int, gid: int) -> list[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError:  # ERANGE: more groups than fit; what the user database says, then
        try:
            return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
        except KeyError:
            return []
    return list(struct.unpack(f"{len(raw) // _GID_BYTES}I", raw))


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
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
