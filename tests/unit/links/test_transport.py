# SPDX-License-Identifier: LGPL-2.1-or-later
"""Addresses, and what plain TCP may not do."""

import asyncio
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from vccid.errors import ConfigError, NotPermitted
from vccid.links.transport import Endpoint, TcpAddress, UnixAddress, parse_address, peer_name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/x/ccid.sock", UnixAddress("/run/x/ccid.sock")),
        ("unix:/run/x/ccid.sock", UnixAddress("/run/x/ccid.sock")),
        ("localhost:2001", TcpAddress("localhost", 2001)),
        ("127.0.0.1:2001", TcpAddress("127.0.0.1", 2001)),
        ("[::1]:2001", TcpAddress("::1", 2001)),
    ],
)
def test_addresses(text: str, address: UnixAddress | TcpAddress) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "ccid.sock", "localhost", "localhost:", "host:0", "host:65536", "::1:2001", ":1"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(ConfigError, match="107"):
        parse_address("/" + "x" * 107)


@pytest.mark.parametrize("host", ["192.0.2.1", "::", "0.0.0.0", "guest.example"])
def test_plain_tcp_beyond_loopback_is_refused(host: str) -> None:
    with pytest.raises(NotPermitted):
        Endpoint(TcpAddress(host, 2001)).check()
    Endpoint(TcpAddress(host, 2001), allow_plain=True).check()


async def test_a_dead_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "vsc.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    endpoint = Endpoint(UnixAddress(str(path)))
    server = await endpoint.listen(asyncio.Protocol, 0o620)
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    with pytest.raises(OSError, match="in use"):
        await endpoint.listen(asyncio.Protocol)
    made = await endpoint.dial(Named)
    assert await made.name == f"pid {os.getpid()}"
    server.close()


async def test_a_name_is_looked_up_in_a_thread_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """libuv would use one of its own, and abort() where the system has none left."""
    loop = asyncio.get_running_loop()

    def refuse(*args: object, **named: object) -> None:
        raise OSError(errno.EAGAIN, "no thread can be started for it")

    with socket.create_server(("127.0.0.1", 0)) as there:
        endpoint = Endpoint(TcpAddress("localhost", there.getsockname()[1]))
        made = await endpoint.dial(Named)
        assert (await made.name).startswith("127.0.0.1:")
        monkeypatch.setattr(loop, "run_in_executor", refuse)
        with pytest.raises(OSError, match="no thread"):
            await endpoint.dial(Named)
        with pytest.raises(OSError, match="no thread"):
            await Endpoint(TcpAddress("localhost", 1)).listen(asyncio.Protocol)


@pytest.mark.parametrize("name", ["a" * 64, "a..b", "none.invalid"])
async def test_a_name_that_no_host_has(name: str) -> None:
    with pytest.raises(OSError):
        await Endpoint(TcpAddress(name, 2001), allow_plain=True).dial(Named)


async def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("x")
    with pytest.raises(OSError, match="in use"):
        await Endpoint(UnixAddress(str(path))).listen(asyncio.Protocol)
    assert path.read_text() == "x"


class Named(asyncio.Protocol):
    """Tells who it is connected to."""

    def __init__(self) -> None:
        self.name: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.name.set_result(peer_name(transport))
        transport.close()
