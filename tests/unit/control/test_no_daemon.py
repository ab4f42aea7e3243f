# SPDX-License-Identifier: LGPL-2.1-or-later
"""Those who wait at a socket for a daemon that cannot start are told, and gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vccid.control import no_daemon
from vccid.control.callers import Access
from vccid.control.no_daemon import answer_waiting
from vccid.errors import ConfigError, NotPermitted
from vccid.wire.varlink import Reply

WRONG = ConfigError("vccid.toml:1: unknown key", "did you mean another?")


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()
        yield listening


def caller(
    listening: socket.socket, call: bytes = b'{"method":"io.vccid.Status"}\0'
) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(listening.getsockname())
    connection.sendall(call)
    return connection


def answer(connection: socket.socket) -> Reply:
    data = b"".join(iter(lambda: connection.recv(4096), b""))
    return Reply.parse(data.removesuffix(b"\0"))


def test_each_is_told_what_is_wrong(listening: socket.socket) -> None:
    callers = [caller(listening) for _ in range(3)]
    answer_waiting(listening, WRONG, Access("vccid"))
    for connection in callers:
        reply = answer(connection)
        assert reply.error == "io.vccid.ConfigError"
        assert reply.parameters == {"message": WRONG.message, "hint": WRONG.hint}


def test_a_stranger_hears_no_more_than_that_it_is_one(listening: socket.socket) -> None:
    class Nobody(Access):
        def check(self, peer: object) -> None:
            raise NotPermitted("user x may not control vccid")

    connection = caller(listening)
    answer_waiting(listening, WRONG, Nobody("vccid"))
    assert answer(connection).parameters["message"] == "user x may not control vccid"


def test_one_that_says_nothing_or_has_left_holds_up_nobody(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(no_daemon, "PATIENCE", 0.05)
    silent = caller(listening, b"")
    caller(listening).close()
    last = caller(listening)
    answer_waiting(listening, WRONG, Access("vccid"))
    assert answer(last).error == "io.vccid.ConfigError"
    assert silent.recv(1) == b"", "hung up on"


def test_however_many_say_nothing_it_ends_in_time(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is waited for, and none of the others: what they have said is there already."""
    clock = iter([0.0, *([no_daemon.PATIENCE + 1] * 200)])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    timeouts: list[float] = []
    answer_one = no_daemon._answer

    def answer_and_note(connection: socket.socket, *rest: Any) -> None:
        timeouts.append(connection.gettimeout() or 0.0)
        answer_one(connection, *rest)

    monkeypatch.setattr(no_daemon, "_answer", answer_and_note)
    silent = [caller(listening, b"") for _ in range(100)]
    last = caller(listening)
    answer_waiting(listening, WRONG, Access("vccid"))
    assert timeouts == [0.0] * 101
    assert answer(last).error == "io.vccid.ConfigError"
    assert all(connection.recv(1) == b"" for connection in silent)


def test_who_connects_without_end_is_left_to_systemd(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(no_daemon, "_MOST", 2)
    callers = [caller(listening) for _ in range(3)]
    answer_waiting(listening, WRONG, Access("vccid"))
    assert [answer(each).error for each in callers[:2]] == ["io.vccid.ConfigError"] * 2
    callers[2].setblocking(False)
    with pytest.raises(BlockingIOError):
        callers[2].recv(1)
