# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the service manager is told, and what it hands over."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vccid.daemon import sd_notify
from vccid.daemon.sd_notify import Notifier, control_sockets, path_of, watchdog_interval
from vccid.errors import ConfigError


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


def test_what_is_told(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("1 reader\nX=1 ä")
    assert manager.recv(1000) == b"READY=1\nSTATUS=1 reader X=1 ?"
    notifier.reloading()
    first, second = manager.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.partition("=")[2].isdecimal()
    notifier.watchdog()
    assert manager.recv(1000) == b"WATCHDOG=1"
    notifier.stopping()
    assert manager.recv(1000).startswith(b"STOPPING=1")


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("ready")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_half_the_watchdogs_time(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_interval(environ) == seconds


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """Two sockets on neighbouring descriptors, as systemd hands them over."""
    base = 700
    made = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    for index, one in enumerate(made):
        os.dup2(one.fileno(), base + index)
    monkeypatch.setattr(sd_notify, "_FIRST_FD", base)
    yield made
    for index, one in enumerate(made):
        one.close()
        try:
            os.close(base + index)
        except OSError:
            continue


def environ(count: int, names: str) -> dict[str, str]:
    return {"LISTEN_FDS": str(count), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}


def listen(*sockets: socket.socket, at: Path) -> list[str]:
    paths = [str(at / str(number)) for number in range(len(sockets))]
    for one, path in zip(sockets, paths, strict=True):
        one.bind(path)
        one.listen()
    return paths


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("names", ["vccid.socket:vccid.socket", "control:mine", "", "a:b"])
def test_every_socket_that_listens_is_ours(
    handed: list[socket.socket], tmp_path: Path, names: str
) -> None:
    paths = listen(*handed, at=tmp_path)
    variables = environ(2, names)
    found = control_sockets(variables)
    assert [one.getsockname() for one in found] == paths
    assert not any(one.get_inheritable() for one in found)
    assert variables == {}
    for one in found:
        one.close()


def test_another_than_control_that_does_not_listen_is_told_of(
    handed: list[socket.socket], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listen(handed[1], at=tmp_path)
    [found] = control_sockets(environ(2, "other:control"))
    with found:
        assert found.getsockname() == str(tmp_path / "0")
    assert not is_open(700)
    assert "the socket other that systemd handed over is none of ours" in caplog.text


def test_sockets_of_another_process_are_left_alone(handed: list[socket.socket]) -> None:
    assert control_sockets({**environ(1, "control"), "LISTEN_PID": "1"}) == ()
    assert control_sockets({}) == ()
    assert is_open(700)


def test_a_socket_that_does_not_listen_is_refused(handed: list[socket.socket]) -> None:
    with pytest.raises(ConfigError, match="no listening unix stream socket"):
        control_sockets(environ(1, "control"))


def test_datagrams_are_no_stream(handed: list[socket.socket]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        os.dup2(datagrams.fileno(), 700)
    with pytest.raises(ConfigError, match="no listening unix stream socket"):
        control_sockets(environ(1, "control"))


@pytest.mark.parametrize("count", [3, 10**6, 10**30])
def test_more_than_there_are(handed: list[socket.socket], tmp_path: Path, count: int) -> None:
    """What comes behind them is not systemd's, and nothing of it is closed."""
    listen(*handed, at=tmp_path)
    with open(os.devnull) as other:
        os.dup2(other.fileno(), 702)
    try:
        with pytest.raises(ConfigError, match="and file descriptor 702 is none"):
            control_sockets(environ(count, ""))
        assert is_open(702)
    finally:
        os.close(702)


def test_a_socket_in_the_abstract_namespace_is_served_and_has_no_path(
    handed: list[socket.socket], tmp_path: Path
) -> None:
    """unix(7): bytes behind a NUL, which are no file."""
    handed[0].bind(f"\0{tmp_path}")
    handed[0].listen()
    paths = listen(handed[1], at=tmp_path)
    taken = control_sockets(environ(2, ""))
    try:
        assert len(taken) == 2
        assert path_of(taken) == Path(paths[0])
        assert path_of(taken[:1]) is None
    finally:
        for one in taken:
            one.close()
