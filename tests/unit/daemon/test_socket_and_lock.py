# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock of the daemon's directories, and the control socket's group."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from vccid.daemon.socket_and_lock import InstanceLock, make_socket, share
from vccid.errors import DaemonRunning


def lay(tmp_path: Path, how: str) -> Path:
    """A second directory whose lock is the first one's, by some way."""
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    if how == "same":
        return first
    if how == "dots":
        return tmp_path / "." / "one" / ".." / "one"
    if how == "link":
        second.symlink_to(first)
    else:
        second.mkdir()
        (first / "lock").touch()
        os.link(first / "lock", second / "lock")
    return second


@pytest.mark.parametrize("how", ["same", "dots", "link", "hard link"])
def test_one_directory_is_locked_once(tmp_path: Path, how: str) -> None:
    InstanceLock(lay(tmp_path, how), tmp_path / "one")
    with pytest.raises(DaemonRunning, match=rf"another vccid \(pid {os.getpid()}\) uses"):
        InstanceLock(tmp_path / "one")


def test_a_lock_that_is_taken_lets_go_of_the_others(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    InstanceLock(tmp_path / "two")
    with pytest.raises(DaemonRunning, match="two"):
        InstanceLock(tmp_path / "one", tmp_path / "two")
    InstanceLock(tmp_path / "one")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_a_group_that_cannot_have_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """EINVAL: the user namespace does not know the group."""

    def chown(path: object, uid: int, gid: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr("vccid.daemon.socket_and_lock.group_id", lambda name: 12345)
    path = tmp_path / "control"
    with make_socket(path):
        share(path, "vccid", 0o660)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
