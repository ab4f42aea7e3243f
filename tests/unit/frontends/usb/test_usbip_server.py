# SPDX-License-Identifier: LGPL-2.1-or-later
"""The USB/IP server over real sockets: importers, strangers, and peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.fakes import ATR, FakeCard
from vccid.errors import ConfigError
from vccid.frontends.usb import usbip_server
from vccid.frontends.usb.usb_host import UsbReader
from vccid.frontends.usb.usbip_server import UsbIpServer, UsbIpSettings
from vccid.process.log_rate_limit import BURST
from vccid.reader import Reader

from ..tls_files import make_authority
from .usb_client import usb_reader
from .usbip_client import REQUEST, UsbIpClient

IMPORT = bytes.fromhex("0111" "8003" "00000000") + b"1-1".ljust(32, b"\0")


def exported(readers: list[Reader]) -> dict[str, UsbReader]:
    return {f"1-{n}": usb_reader(reader) for n, reader in enumerate(readers, start=1)}


@pytest.fixture
def readers() -> list[Reader]:
    return [Reader("office"), Reader("lab")]


@pytest.fixture
async def server(readers: list[Reader]) -> AsyncIterator[UsbIpServer]:
    server = UsbIpServer(lambda: exported(readers), UsbIpSettings(port=0))
    await server.start()
    yield server
    await server.stop()
    assert not [host for reader in readers for host in reader.hosts]


async def test_listing(server: UsbIpServer) -> None:
    async with await UsbIpClient.connect(server.address) as client:
        assert await client.devlist() == [("1-1", 2, 0x0E0F), ("1-2", 2, 0x0E0F)]


async def test_two_importers_with_two_readers(server: UsbIpServer, readers: list[Reader]) -> None:
    readers[0].insert(FakeCard())
    readers[1].insert(FakeCard(lambda command: b"\x6d\x00"))
    async with (
        await UsbIpClient.connect(server.address) as first,
        await UsbIpClient.connect(server.address) as second,
    ):
        assert await first.import_device("1-1") == 0
        assert await second.import_device("1-2") == 0
        for client in (first, second):
            await client.ccid.configure()
            assert await client.ccid.power_on() == ATR
        long = bytes.fromhex("00DB0000") + bytes(65000)
        assert await first.ccid.transmit(long) == long + b"\x90\x00"
        assert await second.ccid.transmit(b"\0\xa4\4\0") == b"\x6d\x00"
        assert [host.kind for host in readers[0].hosts] == ["usbip"]


async def test_one_owner_for_each_device(server: UsbIpServer, readers: list[Reader]) -> None:
    owner = await UsbIpClient.connect(server.address)
    assert await owner.import_device("1-1") == 0
    async with await UsbIpClient.connect(server.address) as client:
        assert await client.devlist() == [("1-2", 2, 0x0E0F)]
    async with await UsbIpClient.connect(server.address) as client:
        assert await client.import_device("1-1") == 2  # ST_DEV_BUSY
    async with await UsbIpClient.connect(server.address) as client:
        assert await client.import_device("9-9") == 4  # ST_NODEV
    await owner.close()
    while readers[0].hosts:
        await asyncio.sleep(0.001)
    async with await UsbIpClient.connect(server.address) as client:
        assert await client.import_device("1-1") == 0


async def test_a_reader_that_is_no_longer_exported(
    server: UsbIpServer, readers: list[Reader]
) -> None:
    async with await UsbIpClient.connect(server.address) as client:
        assert await client.import_device("1-1") == 0
        await client.ccid.configure()
        waiting = client.submit(2, True, 8)
        await server.drop("lab")
        await server.drop("office")
        with pytest.raises(ConnectionResetError):
            await client.returned(waiting)


async def test_importers_see_empty_slots_before_they_lose_them(
    server: UsbIpServer, readers: list[Reader]
) -> None:
    for reader in readers:
        reader.insert(FakeCard())
    clients = [await UsbIpClient.connect(server.address) for _ in readers]
    for number, client in enumerate(clients, start=1):
        assert await client.import_device(f"1-{number}") == 0
        await client.ccid.configure()
        assert await client.ccid.status() == 1
        assert await client.ccid.interrupt() == b"\x50\x03"
    told = [client.submit(2, True, 8) for client in clients]
    stopped = asyncio.create_task(server.stop())
    for client, transfer in zip(clients, told, strict=True):
        assert await client.returned(transfer) == (0, 2, b"\x50\x02")
    assert not stopped.done()
    more = []
    for client in clients:
        assert await client.ccid.status() == 2
        more.append(client.submit(2, True, 8))
    for client, transfer in zip(clients, more, strict=True):
        with pytest.raises(ConnectionResetError):
            await client.returned(transfer)
        await client.close()
    await stopped
    assert all(reader.card is not None for reader in readers)


async def test_unlink(server: UsbIpServer, readers: list[Reader]) -> None:
    async with await UsbIpClient.connect(server.address) as client:
        await client.import_device("1-1")
        await client.ccid.configure()
        waiting = client.submit(2, True, 8)
        assert await client.unlink(waiting) == -104
        assert await client.unlink(waiting) == 0
        # The event that a cancelled transfer would have had comes with the next.
        readers[0].insert(FakeCard())
        assert await client.ccid.interrupt() == b"\x50\x03"


async def test_statuses(server: UsbIpServer) -> None:
    async with await UsbIpClient.connect(server.address) as client:
        await client.import_device("1-1")
        await client.ccid.configure()
        stalled = client.submit(0, True, 255, setup=bytes.fromhex("8006EE03000012 00"))
        assert await client.returned(stalled) == (-32, 0, b"")
        await client.carry(1, False, 10, bytes.fromhex("65000000000001000000"), b"")
        assert await client.returned(client.submit(1, True, 9)) == (-75, 0, b"")
        client._waiting[5] = asyncio.get_running_loop().create_future()
        client._rooms[5] = True
        client.writer.write(REQUEST.pack(1, 5, 0, 1, 3, 2, 64, 0, 1, 1, bytes(8)) + bytes(16))
        assert await client.returned(5) == (-22, 0, b"")
        # OUT by the header and IN by the setup: nothing follows the reply.
        odd = client.submit(0, False, 0, setup=bytes.fromhex("8006000100001200"))
        assert await client.returned(odd) == (0, 0, b"")


def submit(seqnum: int, length: int = 8, command: int = 1) -> bytes:
    return REQUEST.pack(command, seqnum, 0x10001, 1, 2, 0, length, 0, 0, 0, bytes(8))


def send(seqnum: int, data: bytes) -> bytes:
    return REQUEST.pack(1, seqnum, 0x10001, 0, 1, 0, len(data), 0, 0, 0, bytes(8)) + data


#: GetSlotStatus, whose answers nobody fetches until no command is taken any more
UNFETCHED = b"".join(send(n, bytes.fromhex("65 00000000 00 00 000000")) for n in range(1, 100))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (bytes.fromhex("0106" "8003" "00000000"), "version 0x0106"),
        (bytes.fromhex("0111" "8000" "00000000"), "no request has code"),
        (submit(1), "version 0x0000"),
        (IMPORT + submit(1, 0xFFFFFFFF), "a transfer of 4294967295 bytes"),
        (IMPORT + submit(1) + submit(1), "sequence number 1 twice"),
        (IMPORT + submit(1, command=2), "more unlinks than submits"),
        (IMPORT + submit(1) + b"".join(submit(n, command=2) for n in range(2, 9)), "more unlinks"),
        (IMPORT + b"".join(submit(n) for n in range(300)), "more than 256 transfers"),
        (IMPORT + submit(1, command=0x01110000), "no URB message"),
        (IMPORT + UNFETCHED + send(100, bytes(1 << 20)), "bytes on their way at once"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_peers_that_are_dropped(
    server: UsbIpServer,
    readers: list[Reader],
    caplog: pytest.LogCaptureFixture,
    raw: bytes,
    reason: str,
) -> None:
    async with await UsbIpClient.connect(server.address) as other:
        assert await other.import_device("1-2") == 0
        await other.ccid.configure()
        stranger, writer = await asyncio.open_connection(*server.address)
        # An unconfigured device stalls at once, and pending transfers are what is tested.
        writer.write(raw[:40] + REQUEST.pack(1, 9999, 0, 0, 0, 0, 0, 0, 0, 0,
                     bytes.fromhex("0009010000000000")) + raw[40:]
                     if raw.startswith(IMPORT) and reason != "more unlinks than submits"
                     else raw)  # fmt: skip
        with pytest.raises(ConnectionResetError):
            while await stranger.read(4096):
                pass
            raise ConnectionResetError
        writer.close()
        assert reason in caplog.text
        assert await other.ccid.status() == 2


async def test_peers_that_come_for_nothing_have_their_share_of_the_log(
    server: UsbIpServer, caplog: pytest.LogCaptureFixture
) -> None:
    for raw in (b"GET / HTTP/1.0\r\n\r\n", IMPORT.replace(b"1-1", b"9-9")) * 40:
        stranger, writer = await asyncio.open_connection(*server.address)
        writer.write(raw)
        with contextlib.suppress(ConnectionResetError):
            while await stranger.read(4096):
                pass
        writer.close()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for what in ("was dropped", "may not import"):
        assert 1 <= sum(what in line for line in told) <= BURST + 1


async def test_half_a_header_is_not_waited_for(
    server: UsbIpServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usbip_server, "REQUEST_TIMEOUT", 0.01)
    stranger, writer = await asyncio.open_connection(*server.address)
    writer.write(b"\x01\x11\x80")
    assert await stranger.read() == b""
    writer.close()
    assert "no request came in time" in caplog.text


async def test_half_a_transfer_is_not_waited_for(
    server: UsbIpServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await UsbIpClient.connect(server.address) as other:
        assert await other.import_device("1-2") == 0
        await other.ccid.configure()
        monkeypatch.setattr(usbip_server, "REQUEST_TIMEOUT", 0.01)
        stranger, writer = await asyncio.open_connection(*server.address)
        writer.write(IMPORT + submit(1)[:-1])
        with pytest.raises(ConnectionResetError):
            while await stranger.read(4096):
                pass
            raise ConnectionResetError
        writer.close()
        assert "half a message, and no more of it" in caplog.text
        assert await other.ccid.status() == 2


async def test_a_slow_peer_that_ends_its_messages_in_time(
    server: UsbIpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usbip_server, "REQUEST_TIMEOUT", 0.5)
    peer, writer = await asyncio.open_connection(*server.address)
    writer.write(IMPORT)
    await peer.readexactly(8 + 312)
    # Never without half a message, for longer than one may take.
    halves = [submit(n)[at : at + 24] for n in range(1, 9) for at in (0, 24)]
    writer.write(halves[0])
    for second, first in zip(halves[1::2], [*halves[2::2], b""], strict=True):
        await asyncio.sleep(0.1)
        writer.write(second + first)
    for _ in range(8):  # not configured: each is stalled
        assert (await peer.readexactly(48))[20:24] == bytes.fromhex("FFFFFFE0")
    writer.close()


async def test_a_vanished_importer_is_given_up_even_with_news_on_the_way(
    server: UsbIpServer,
) -> None:
    async with await UsbIpClient.connect(server.address) as client:
        assert await client.import_device("1-1") == 0
        (connection,) = server._connections
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 90_000


async def test_connections_are_limited(
    readers: list[Reader], caplog: pytest.LogCaptureFixture
) -> None:
    settings = UsbIpSettings(port=0, max_connections=1)
    server = UsbIpServer(lambda: exported(readers), settings)
    await server.start()
    async with await UsbIpClient.connect(server.address) as client:
        assert await client.import_device("1-1") == 0
        stranger, writer = await asyncio.open_connection(*server.address)
        assert await stranger.read() == b""
        writer.close()
        assert "there are 1 connections already" in caplog.text
    await server.stop()


async def test_a_peer_that_does_not_read_is_not_read_either(
    server: UsbIpServer, readers: list[Reader]
) -> None:
    with socket.create_connection(server.address) as stranger:
        stranger.setblocking(False)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        get = bytes.fromhex("800600020000FF00")
        flood = b"".join(REQUEST.pack(1, n, 0, 1, 0, 0, 255, 0, 0, 0, get) for n in range(100_000))
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(stranger, IMPORT)
        sending = asyncio.ensure_future(loop.sock_sendall(stranger, flood))
        while not any(connection._transport for connection in server._connections):
            await asyncio.sleep(0)
        (connection,) = server._connections
        assert connection._transport is not None
        while connection._transport.is_reading():
            await asyncio.sleep(0)
        assert connection._transport.get_write_buffer_size() < 1_000_000
        sending.cancel()


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_nobody_is_served_by_mistake(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        UsbIpSettings(address=address)
    assert "allow" in caught.value.hint


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [("192.0.2.7", True), ("::ffff:192.0.2.7", True), ("192.0.3.1", False), ("fe80::1%eth0", True),
     ("2001:db8::1", False)],
)  # fmt: skip
def test_allowed_addresses(peer: str, allowed: bool) -> None:
    networks = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("fe80::/10"))
    assert UsbIpSettings(address="0.0.0.0", allow=networks).allows(peer) is allowed


async def test_an_address_that_is_not_allowed(
    readers: list[Reader], caplog: pytest.LogCaptureFixture
) -> None:
    settings = UsbIpSettings(port=0, allow=(ipaddress.ip_network("192.0.2.0/24"),))
    server = UsbIpServer(lambda: exported(readers), settings)
    await server.start()
    stranger, writer = await asyncio.open_connection(*server.address)
    assert await stranger.read() == b""
    writer.close()
    assert "its address is not allowed" in caplog.text
    await server.stop()


async def test_an_address_that_is_taken(server: UsbIpServer) -> None:
    second = UsbIpServer(dict, UsbIpSettings(port=server.address[1]))
    with pytest.raises(ConfigError, match="cannot listen for USB/IP"):
        await second.start()
    await second.stop()


async def test_a_handshake_is_a_connection(
    readers: list[Reader], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = make_authority(tmp_path, ec.SECP256R1())
    settings = UsbIpSettings(port=0, tls=authority.server_context(), max_connections=1)
    server = UsbIpServer(lambda: exported(readers), settings)
    await server.start()
    _, silent = await asyncio.open_connection(*server.address)
    stranger, writer = await asyncio.open_connection(*server.address)
    assert await stranger.read() == b""
    writer.close()
    assert "there are 1 connections already" in caplog.text
    silent.close()
    while server._connections:
        await asyncio.sleep(0.001)
    async with await UsbIpClient.connect(server.address, authority.client_context()) as client:
        assert await client.import_device("1-1") == 0
    await server.stop()


async def test_tls_with_client_certificates(readers: list[Reader], tmp_path: Path) -> None:
    authority = make_authority(tmp_path, ec.SECP256R1())
    settings = UsbIpSettings(port=0, tls=authority.server_context())
    server = UsbIpServer(lambda: exported(readers), settings)
    await server.start()
    readers[0].insert(FakeCard())
    async with await UsbIpClient.connect(server.address, authority.client_context()) as client:
        assert await client.import_device("1-1") == 0
        await client.ccid.configure()
        assert await client.ccid.power_on() == ATR
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        async with await UsbIpClient.connect(
            server.address, authority.client_context(certificate=False)
        ) as client:
            await client.import_device("1-1")
    async with await UsbIpClient.connect(server.address) as client:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, struct.error)):
            await client.import_device("1-1")
    await server.stop()
