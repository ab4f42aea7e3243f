# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connections at a listening socket, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from vccid.links import paced_accept
from vccid.links.paced_accept import AT_ONCE, PacedAccept
from vccid.process.log_rate_limit import BURST

WAITING = 4 * AT_ONCE


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        yield listening


@pytest.fixture
def waiting(tmp_path: Path, listening: socket.socket) -> Iterator[list[socket.socket]]:
    """Peers that wait to be taken."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(WAITING)]
        for peer in peers:
            peer.connect(str(tmp_path / "socket"))
        yield peers


async def test_others_have_their_turn_in_between(
    listening: socket.socket, waiting: list[socket.socket]
) -> None:
    loop = asyncio.get_running_loop()
    taken: list[int] = []
    turns: list[int] = []

    def count() -> None:
        turns.append(len(taken))
        if len(taken) < WAITING:
            loop.call_soon(count)

    door = PacedAccept(listening, lambda connection: taken.append(connection.fileno()))
    count()
    while len(taken) < WAITING:
        await asyncio.sleep(0)
    door.close()
    assert max(after - before for before, after in pairwise(turns)) <= AT_ONCE
    assert all(peer.recv(1) == b"" for peer in waiting), "they were turned away"


async def test_who_is_let_in_is_served(
    listening: socket.socket, waiting: list[socket.socket]
) -> None:
    class Greets(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.WriteTransport)
            transport.write(b"x")
            transport.close()

    door = PacedAccept(listening, lambda connection: Greets)
    loop = asyncio.get_running_loop()
    for peer in waiting:
        peer.setblocking(False)
        assert await loop.sock_recv(peer, 2) == b"x"
    door.close()
    door.close()


async def test_an_error_turns_one_away_and_no_other(
    listening: socket.socket, waiting: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def make(connection: socket.socket) -> None:
        asked.append(1)
        raise ConnectionResetError("gone")

    door = PacedAccept(listening, make)
    while len(asked) < WAITING:
        await asyncio.sleep(0)
    door.close()
    assert len(caplog.records) == BURST


async def test_without_a_descriptor_it_waits_and_goes_on(
    listening: socket.socket,
    waiting: list[socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(paced_accept, "BREATH", 0.01)
    taken: list[int] = []
    door = PacedAccept(listening, lambda connection: taken.append(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_free = os.dup(listening.fileno())
    os.close(next_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
    try:
        async with asyncio.timeout(10):
            while not caplog.records:
                await asyncio.sleep(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "no connection can be taken: [Errno 24] Too many open files" in caplog.text
    while len(taken) < WAITING:
        await asyncio.sleep(0)
    door.close()
