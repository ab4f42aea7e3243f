# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may control the daemon."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import struct

import pytest

from vccid.control.callers import Access, Peer, peer_of
from vccid.errors import NotPermitted

OTHER = 54321


def test_a_peer_is_known_by_what_the_kernel_says() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.gids == {os.getegid(), *os.getgroups()}


class Crowded:
    """A connection whose peer is in more groups than fit."""

    def __init__(self, uid: int, gid: int) -> None:
        self._credentials = struct.pack("3i", 7, uid, gid)

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        if option != socket.SO_PEERCRED:
            raise OSError(errno.ERANGE, "too many")
        return self._credentials


def test_of_too_many_groups_the_user_database_knows() -> None:
    user = next(user for user in pwd.getpwall() if user.pw_uid == os.geteuid())
    peer = peer_of(Crowded(user.pw_uid, user.pw_gid))
    assert peer.gids == set(os.getgrouplist(user.pw_name, user.pw_gid))
    assert peer_of(Crowded(OTHER, OTHER)).gids == {OTHER}, "nobody it knows"


def test_root_ourselves_and_members_pass() -> None:
    group = next(group for group in grp.getgrall() if group.gr_gid not in (0, OTHER))
    access = Access(group.gr_name)
    for peer in (
        Peer(1, 0, frozenset()),
        Peer(1, os.geteuid(), frozenset()),
        Peer(1, OTHER, frozenset((OTHER, group.gr_gid))),
    ):
        access.check(peer)
    with pytest.raises(NotPermitted, match=f"user {OTHER} .* group {group.gr_name}$") as caught:
        access.check(Peer(1, OTHER, frozenset((OTHER,))))
    assert f"usermod -aG {group.gr_name} {OTHER}" in caught.value.hint


def test_a_group_that_is_missing_lets_nobody_in() -> None:
    with pytest.raises(NotPermitted, match="does not exist") as caught:
        Access("no-such-group").check(Peer(1, OTHER, frozenset((OTHER, 0))))
    assert "groupadd" in caught.value.hint
