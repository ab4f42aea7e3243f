# SPDX-License-Identifier: LGPL-2.1-or-later
"""Those in TLS's handshake at a socket of ours: so many at once, and nothing stays of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.frontends.tls_files import make_authority
from vccid.links import paced_accept, tls
from vccid.links.paced_accept import HANDSHAKES, HANDSHAKES_OF_ONE
from vccid.links.transport import Endpoint, Listening, TcpAddress
from vccid.process.log_rate_limit import BURST


class Greets(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        cast(asyncio.WriteTransport, transport).write(b"x")


class Doorstep:
    """A listening endpoint with TLS, and those who connect to it."""

    def __init__(self, directory: Path) -> None:
        self.authority = make_authority(directory, ec.SECP256R1())
        own = str(directory / "server.pem")
        files = tls.Files("guests", own, own, str(directory / "ca.pem"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        context = tls.context(files, server=True)
        self.endpoint = Endpoint(TcpAddress("127.0.0.1", self.port), context)

    async def listen(self) -> Listening:
        return await self.endpoint.listen(Greets)

    async def connect(self, source: str) -> Stranger:
        """One who says nothing."""
        made = asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        return Stranger(*await made)

    async def greeting(self, source: str) -> bytes:
        """What one who speaks TLS is told."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            local_addr=(source, 0),
            ssl=self.authority.client_context(),
            server_hostname="localhost",
        )
        said = await reader.read(1)
        writer.close()
        return said


@dataclass
class Stranger:
    """Is connected, and may write."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def is_gone(self) -> bool:
        """Waits until it is told something, which is its end."""
        with contextlib.suppress(ConnectionResetError):
            while await self.reader.read(100):
                pass
        self.writer.close()
        return True


@pytest.fixture(params=[None, "uvloop"], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Both loops that the daemon runs on."""
    if request.param is None:
        return asyncio.DefaultEventLoopPolicy()
    return cast(asyncio.AbstractEventLoopPolicy, pytest.importorskip("uvloop").EventLoopPolicy())


@pytest.fixture
def doorstep(tmp_path: Path) -> Doorstep:
    return Doorstep(tmp_path)


def sockets() -> int:
    """Those this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


async def test_one_address_fills_its_own_places_alone(
    doorstep: Doorstep, caplog: pytest.LogCaptureFixture
) -> None:
    door = await doorstep.listen()
    silent = [await doorstep.connect("127.0.0.1") for _ in range(HANDSHAKES_OF_ONE)]
    for _ in range(2 * BURST):
        assert await (await doorstep.connect("127.0.0.1")).is_gone()
    assert len(caplog.records) == BURST
    assert "127.0.0.1 was refused: 8 connections are in TLS's handshake, 8 of them" in caplog.text
    assert await doorstep.greeting("127.0.0.2") == b"x"
    silent.pop().writer.close()
    while "was lost" not in caplog.text:
        await asyncio.sleep(0.01)
    assert await doorstep.greeting("127.0.0.1") == b"x"
    door.close()
    assert all([await each.is_gone() for each in silent])


async def test_all_addresses_together_have_so_many(doorstep: Doorstep) -> None:
    door = await doorstep.listen()
    silent = [
        await doorstep.connect(f"127.0.0.{2 + number // HANDSHAKES_OF_ONE}")
        for number in range(HANDSHAKES)
    ]
    assert await (await doorstep.connect("127.0.0.1")).is_gone()
    door.close()
    assert all([await each.is_gone() for each in silent])


@pytest.mark.parametrize("ends", ["in silence", "with nonsense", "by hanging up", "with the door"])
async def test_nothing_stays_of_a_handshake_that_fails(
    doorstep: Doorstep, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paced_accept, "HANDSHAKE_TIMEOUT", 0.2)
    door = await doorstep.listen()
    before = sockets()
    strangers = [await doorstep.connect("127.0.0.1") for _ in range(HANDSHAKES_OF_ONE)]
    for stranger in strangers:
        if ends == "with nonsense":
            stranger.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        elif ends == "by hanging up":
            stranger.writer.close()
    if ends == "with the door":
        await asyncio.sleep(0.01)
        door.close()
        before -= 1
    if ends != "by hanging up":
        assert all([await stranger.is_gone() for stranger in strangers])
    async with asyncio.timeout(10):
        while sockets() > before:
            await asyncio.sleep(0.01)
    if ends != "with the door":
        assert await doorstep.greeting("127.0.0.1") == b"x"
    door.close()
