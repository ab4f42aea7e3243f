# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in the way of the daemon's files stays."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from vccid.daemon.socket_and_lock import InstanceLock, make_socket
from vccid.errors import ConfigError


def test_a_users_file_called_control_stays(tmp_path: Path) -> None:
    file = tmp_path / "control"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="control is in the way: it is no socket") as told:
        make_socket(file)
    assert "move it elsewhere" in told.value.hint
    assert file.read_text() == "precious"


def test_so_does_a_link(tmp_path: Path) -> None:
    link = tmp_path / "control"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is in the way"):
        make_socket(link)
    assert link.is_symlink()


def test_a_socket_that_was_left_goes_and_one_that_is_used_stays(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with make_socket(path), socket.socket(socket.AF_UNIX) as peer:
        with pytest.raises(ConfigError, match="another program listens at"):
            make_socket(path)
        peer.connect(str(path))


@pytest.mark.parametrize("content", [b"precious", b"12 monkeys\n", b"\n\n", b"1" * 21])
def test_a_users_file_called_lock_stays(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "lock"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="lock is in the way: it is no lock of vccid's"):
        InstanceLock(tmp_path)
    assert file.read_bytes() == content


def test_nor_is_a_fifo_taken_for_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(ConfigError, match="is in the way"):
        InstanceLock(tmp_path)


@pytest.mark.parametrize("content", [b"", b"4711\n", b"99999999"])
def test_a_lock_that_was_left_is_taken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    held = InstanceLock(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    del held
