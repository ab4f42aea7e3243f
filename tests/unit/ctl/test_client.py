# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is said of a daemon that does not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vccid.ctl.client import Client, NoDaemon


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen()
        yield listening


def test_a_daemon_that_is_silent_has_not_closed_the_connection(
    listening: socket.socket, tmp_path: Path
) -> None:
    with (
        Client(tmp_path / "control", patience=0.05) as client,
        pytest.raises(NoDaemon, match=r"did not answer within 0\.05 seconds"),
    ):
        client.call("Status")


def test_one_that_takes_nothing_more_has_not_either(
    listening: socket.socket, tmp_path: Path
) -> None:
    with (
        Client(tmp_path / "control", patience=0.05) as client,
        pytest.raises(NoDaemon, match=r"did not answer within 0\.05 seconds"),
    ):
        client.call("AddReader", {"name": "x" * 10_000_000})


def test_one_that_has_is_said_to_have(listening: socket.socket, tmp_path: Path) -> None:
    with Client(tmp_path / "control", patience=5) as client:
        listening.accept()[0].close()
        with pytest.raises(NoDaemon, match="closed the connection"):
            client.call("Status")
