# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may control the daemon."""

from __future__ import annotations

import grp
import os
import signal
import socket

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


@pytest.mark.skipif(os.geteuid() != 0, reason="takes on groups")
def test_a_peer_may_be_in_more_groups_than_one_call_of_pythons_tells() -> None:
    """The kernel is asked, and no user database, which may be far away."""
    groups = range(100_000, 100_300)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as theirs:
        listening.bind("")  # an abstract name of the kernel's choice: unix(7)
        listening.listen()
        child = os.fork()
        if not child:
            os.setgroups(groups)
            theirs.connect(listening.getsockname())
            signal.pause()
        ours, _ = listening.accept()
        with ours:
            try:
                assert peer_of(ours).gids == {os.getegid(), *groups}
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


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
