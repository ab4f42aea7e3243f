# SPDX-License-Identifier: LGPL-2.1-or-later
"""The usbredir frontend against a usb-guest that says exactly what the test says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.fakes import FakeCard
from tests.unit.frontends.tls_files import Authority, make_authority
from vccid.errors import NotPermitted
from vccid.frontends.dialling import Timing
from vccid.frontends.usb import opening
from vccid.frontends.usb.usb_host import UsbReader
from vccid.frontends.usb.usbredir import UsbRedirFrontend
from vccid.links.transport import Endpoint, TcpAddress, parse_address
from vccid.reader import Reader
from vccid.usb.descriptors import Identity

TIMING = Timing(ready=2.0, first_retry=0.01, last_retry=0.05, leave=0.5)

CONNECT, DISCONNECT, RESET, INTERFACES, ENDPOINTS = 1, 2, 3, 4, 5
SET_CONFIGURATION, GET_CONFIGURATION, CONFIGURATION_STATUS = 6, 7, 8
SET_ALT, GET_ALT, ALT_STATUS = 9, 10, 11
START_ISO, ISO_STATUS = 12, 14
START_INTERRUPT, STOP_INTERRUPT, INTERRUPT_STATUS = 15, 16, 17
CANCEL, REJECT, DISCONNECT_ACK = 21, 22, 24
CONTROL, BULK, INTERRUPT = 100, 101, 103
SUCCESS, CANCELLED, INVAL, STALL = 0, 1, 2, 4

ICC_POWER_ON = bytes.fromhex("62 00000000 00 01 00 0000")
GET_SLOT_STATUS = bytes.fromhex("65 00000000 00 02 00 0000")


@dataclass(frozen=True)
class Message:
    """A message of the device's side, its own header not taken apart."""

    type: int
    id: int
    body: bytes


class UsbGuest:
    """QEMU's part, written from the protocol's document."""

    def __init__(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = stream
        self.writer = writer

    async def greet(self) -> None:
        hello = await self._stream.readexactly(12 + 68)
        assert hello[:12] == struct.pack("<III", 0, 68, 0)
        body = b"test".ljust(64, b"\0") + struct.pack("<I", 0xFF)
        self.writer.write(struct.pack("<III", 0, 68, 0) + body)
        for kind in (ENDPOINTS, INTERFACES, CONNECT):
            assert (await self.receive()).type == kind

    async def configure(self) -> None:
        self.send(SET_CONFIGURATION, 1, b"\x01")
        for kind in (ENDPOINTS, INTERFACES):
            assert (await self.receive()).type == kind
        assert await self.receive() == Message(CONFIGURATION_STATUS, 1, b"\x00\x01")

    def send(self, kind: int, id_: int, body: bytes = b"") -> None:
        self.writer.write(struct.pack("<IIQ", kind, len(body), id_) + body)

    async def receive(self) -> Message:
        header = await asyncio.wait_for(self._stream.readexactly(16), 5)
        kind, length, id_ = struct.unpack("<IIQ", header)
        return Message(kind, id_, await self._stream.readexactly(length))

    async def at_end(self) -> bool:
        return not await asyncio.wait_for(self._stream.read(), 5)

    def control(self, id_: int, request_type: int, request: int, value: int, length: int) -> None:
        direction = request_type & 0x80
        fields = (direction, request, request_type, 0xFE, value, 0, length)
        self.send(CONTROL, id_, struct.pack("<BBBBHHH", *fields))

    def bulk(self, id_: int, endpoint: int, data: bytes, room: int = 0) -> None:
        length = room or len(data)
        fields = (endpoint, 0x2C, length & 0xFFFF, 0, length >> 16)
        self.send(BULK, id_, struct.pack("<BBHIH", *fields) + data)

    async def ccid(self, id_: int, command: bytes) -> bytes:
        """One command of the CCID class and its answer."""
        self.bulk(id_, 0x01, command)
        sent = struct.pack("<BBHIH", 0x01, SUCCESS, len(command), 0, 0)
        assert await self.receive() == Message(BULK, id_, sent)
        self.bulk(id_ + 1, 0x81, b"", 65_556)
        answer = await self.receive()
        assert (answer.type, answer.id) == (BULK, id_ + 1)
        head = struct.pack("<BBHIH", 0x81, SUCCESS, len(answer.body) - 10, 0, 0)
        assert answer.body[:10] == head
        return answer.body[10:]


@pytest.fixture
def reader() -> Reader:
    return Reader("vccid0")


def usb(reader: Reader) -> UsbReader:
    return UsbReader("vccid0", (reader,), Identity("0123", "vccid0"))


@pytest.fixture
async def frontend(tmp_path: Path, reader: Reader) -> AsyncIterator[UsbRedirFrontend]:
    endpoint = Endpoint(parse_address(f"{tmp_path}/redir.sock"))
    frontend = UsbRedirFrontend(usb(reader), endpoint, TIMING, listen=True)
    await frontend.start()
    yield frontend
    await frontend.stop()


@pytest.fixture
async def guest(tmp_path: Path, frontend: UsbRedirFrontend) -> AsyncIterator[UsbGuest]:
    guest = UsbGuest(*await asyncio.open_unix_connection(tmp_path / "redir.sock"))
    await guest.greet()
    yield guest
    guest.writer.transport.abort()


async def test_descriptor_configuration_and_a_command(guest: UsbGuest, reader: Reader) -> None:
    reader.insert(FakeCard())
    guest.control(7, 0x80, 0x06, 0x0100, 8)
    answer = await guest.receive()
    assert answer.body[:10] == struct.pack("<BBBBHHH", 0x80, 6, 0x80, SUCCESS, 0x100, 0, 8)
    assert answer.body[10:12] == b"\x12\x01"
    assert len(answer.body) == 18
    await guest.configure()
    guest.send(GET_CONFIGURATION, 2)
    await guest.receive()
    await guest.receive()
    assert await guest.receive() == Message(CONFIGURATION_STATUS, 2, b"\x00\x01")
    powered = await guest.ccid(10, ICC_POWER_ON)
    assert powered[0] == 0x80
    assert powered[10:12] == b"\x3b\x7a"


async def test_settings_there_are_and_are_not(guest: UsbGuest) -> None:
    await guest.configure()
    guest.send(SET_ALT, 3, b"\x00\x00")
    assert [(await guest.receive()).type for _ in range(2)] == [ENDPOINTS, INTERFACES]
    assert await guest.receive() == Message(ALT_STATUS, 3, b"\x00\x00\x00")
    guest.send(GET_ALT, 4, b"\x00")
    await guest.receive()
    await guest.receive()
    assert await guest.receive() == Message(ALT_STATUS, 4, b"\x00\x00\x00")
    guest.send(SET_ALT, 5, b"\x00\x01")
    assert await guest.receive() == Message(ALT_STATUS, 5, b"\x02\x00\x01")
    guest.send(SET_CONFIGURATION, 6, b"\x09")
    assert await guest.receive() == Message(CONFIGURATION_STATUS, 6, b"\x02\x09")
    guest.send(START_ISO, 7, b"\x83\x01\x01")
    assert await guest.receive() == Message(ISO_STATUS, 7, b"\x02\x83")


async def test_notifications_only_between_start_and_stop(guest: UsbGuest, reader: Reader) -> None:
    await guest.configure()
    guest.send(START_INTERRUPT, 2, b"\x82")
    assert await guest.receive() == Message(INTERRUPT_STATUS, 2, b"\x00\x82")
    reader.insert(FakeCard())
    notification = await guest.receive()
    assert notification.type == INTERRUPT
    assert notification.body[:4] == b"\x82\x00\x02\x00"
    assert notification.body[4] == 0x50
    guest.send(STOP_INTERRUPT, 3, b"\x82")
    while (answer := await guest.receive()).type == INTERRUPT:
        pass
    assert answer == Message(INTERRUPT_STATUS, 3, b"\x00\x82")
    reader.remove()
    guest.send(STOP_INTERRUPT, 4, b"\x82")
    assert await guest.receive() == Message(INTERRUPT_STATUS, 4, b"\x00\x82")


async def test_streams_that_cannot_start(guest: UsbGuest) -> None:
    guest.send(START_INTERRUPT, 2, b"\x82")  # not configured
    assert await guest.receive() == Message(INTERRUPT_STATUS, 2, b"\x04\x82")
    guest.send(START_INTERRUPT, 3, b"\x83")  # no such endpoint
    assert await guest.receive() == Message(INTERRUPT_STATUS, 3, b"\x02\x83")


async def test_cancel_is_answered_once(guest: UsbGuest) -> None:
    await guest.configure()
    guest.bulk(5, 0x81, b"", 512)
    guest.send(CANCEL, 5)
    cancelled = struct.pack("<BBHIH", 0x81, CANCELLED, 0, 0, 0)
    assert await guest.receive() == Message(BULK, 5, cancelled)
    guest.send(CANCEL, 5)
    guest.send(CANCEL, 99)
    # Nothing of it came before the next answer, and the response is still there to be read.
    assert (await guest.ccid(6, GET_SLOT_STATUS))[0] == 0x81


async def test_a_reader_given_up_is_plugged_in_again(
    guest: UsbGuest, tmp_path: Path, frontend: UsbRedirFrontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As libccid does: it listens for old news, asks for the status twice, and goes."""
    monkeypatch.setattr(opening, "_SILENCE", 0.01)
    await guest.configure()
    guest.send(START_INTERRUPT, 2, b"\x82")
    await guest.receive()
    guest.send(STOP_INTERRUPT, 3, b"\x82")
    await guest.receive()
    assert (await guest.ccid(4, GET_SLOT_STATUS))[0] == 0x81
    assert (await guest.ccid(6, GET_SLOT_STATUS))[0] == 0x81
    assert await guest.at_end()
    again = UsbGuest(*await asyncio.open_unix_connection(tmp_path / "redir.sock"))
    await again.greet()
    assert frontend.connections == 2
    again.writer.transport.abort()


async def test_reset_answers_what_was_pending(guest: UsbGuest) -> None:
    await guest.configure()
    guest.send(START_INTERRUPT, 2, b"\x82")
    await guest.receive()
    guest.bulk(5, 0x81, b"", 512)
    guest.send(RESET, 6)
    cancelled = struct.pack("<BBHIH", 0x81, CANCELLED, 0, 0, 0)
    assert await guest.receive() == Message(BULK, 5, cancelled)
    assert await guest.receive() == Message(INTERRUPT_STATUS, 0, b"\x04\x82")
    await guest.configure()


@pytest.mark.parametrize("endpoint", [0x00, 0x80, 0x02, 0x83, 0x82])
async def test_bulk_where_there_is_none(guest: UsbGuest, endpoint: int) -> None:
    await guest.configure()
    guest.bulk(5, endpoint, b"")
    refused = struct.pack("<BBHIH", endpoint, INVAL, 0, 0, 0)
    assert await guest.receive() == Message(BULK, 5, refused)


async def test_interrupt_out_where_there_is_none(guest: UsbGuest) -> None:
    guest.send(INTERRUPT, 5, b"\x01\x00\x01\x00\xff")
    assert await guest.receive() == Message(INTERRUPT, 5, b"\x01\x02\x00\x00")


async def test_a_request_nobody_knows_stalls(guest: UsbGuest) -> None:
    guest.control(5, 0xC0, 0x99, 0, 4)
    refused = struct.pack("<BBBBHHH", 0x80, 0x99, 0xC0, STALL, 0, 0, 0)
    assert await guest.receive() == Message(CONTROL, 5, refused)


async def test_the_device_is_unplugged_before_we_hang_up(
    guest: UsbGuest, frontend: UsbRedirFrontend, reader: Reader
) -> None:
    await guest.configure()
    guest.bulk(5, 0x81, b"", 512)
    guest.send(STOP_INTERRUPT, 6, b"\x82")
    await guest.receive()
    closing = asyncio.create_task(frontend.stop())
    cancelled = struct.pack("<BBHIH", 0x81, CANCELLED, 0, 0, 0)
    assert await guest.receive() == Message(BULK, 5, cancelled)
    assert (await guest.receive()).type == DISCONNECT
    assert not closing.done()
    guest.send(DISCONNECT_ACK, 0)
    assert await guest.at_end()
    await closing
    assert reader.hosts == set()


async def test_a_guest_that_refuses_the_device(
    guest: UsbGuest, frontend: UsbRedirFrontend, reader: Reader
) -> None:
    guest.send(REJECT, 0)
    guest.bulk(5, 0x81, b"", 512)
    while reader.hosts:
        await asyncio.sleep(0.001)
    assert frontend.status.startswith("refused")


async def test_one_guest_at_a_time_and_then_the_next(
    guest: UsbGuest, reader: Reader, tmp_path: Path
) -> None:
    stream, writer = await asyncio.open_unix_connection(tmp_path / "redir.sock")
    assert await stream.read() == b""
    writer.close()
    guest.writer.transport.abort()
    while reader.hosts:
        await asyncio.sleep(0.001)
    again = UsbGuest(*await asyncio.open_unix_connection(tmp_path / "redir.sock"))
    await again.greet()
    again.writer.close()


@pytest.mark.parametrize(
    "wire",
    [
        struct.pack("<IIQ", 2, 0, 0),  # device_disconnect is ours to say
        struct.pack("<IIQ", BULK, 0xFFFFFFFF, 0),
        2 * (struct.pack("<IIQ", BULK, 10, 5) + struct.pack("<BBHIH", 0x81, 0, 9, 0, 0)),
        b"".join(struct.pack("<IIQBBHIH", BULK, 10, id_, 0x81, 0, 9, 0, 0) for id_ in range(300)),
    ],
    ids=["not the guest's", "4 GiB", "one id twice", "300 at once"],
)
async def test_who_breaks_the_protocol_is_dropped(
    guest: UsbGuest, reader: Reader, wire: bytes
) -> None:
    await guest.configure()
    guest.writer.write(wire)
    assert await guest.at_end()
    assert reader.hosts == set()


async def test_it_dials_again(tmp_path: Path, reader: Reader) -> None:
    guests: asyncio.Queue[UsbGuest] = asyncio.Queue()

    async def accept(stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await guests.put(UsbGuest(stream, writer))

    path = tmp_path / "qemu.sock"
    frontend = UsbRedirFrontend(usb(reader), Endpoint(parse_address(str(path))), TIMING)
    await frontend.start()
    server = await asyncio.start_unix_server(accept, path)
    for _ in range(2):
        guest = await guests.get()
        await guest.greet()
        guest.writer.transport.abort()
    await guests.get()
    assert frontend.connections == 2
    await frontend.stop()
    server.close()


async def test_a_half_open_guest_is_dropped(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "redir.sock"
    endpoint = Endpoint(parse_address(str(path)))
    frontend = UsbRedirFrontend(usb(reader), endpoint, Timing(ready=0.05), listen=True)
    await frontend.start()
    stream, writer = await asyncio.open_unix_connection(path)
    writer.write(bytes(40))
    await stream.readexactly(80)
    assert await stream.read() == b""
    writer.close()
    await frontend.stop()


def test_plain_tcp_stays_at_home(reader: Reader) -> None:
    with pytest.raises(NotPermitted):
        UsbRedirFrontend(usb(reader), Endpoint(parse_address("0.0.0.0:4000")), listen=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Guarded:
    """A frontend that listens with TLS."""

    frontend: UsbRedirFrontend
    address: TcpAddress
    authority: Authority

    async def connect(self, context: ssl.SSLContext | None) -> UsbGuest:
        name = None if context is None else "localhost"
        return UsbGuest(
            *await asyncio.open_connection(
                self.address.host, self.address.port, ssl=context, server_hostname=name
            )
        )


@pytest.fixture
async def guarded(tmp_path: Path, reader: Reader) -> AsyncIterator[Guarded]:
    authority = make_authority(tmp_path, ec.SECP256R1())
    address = TcpAddress("127.0.0.1", free_port())
    endpoint = Endpoint(address, authority.server_context())
    frontend = UsbRedirFrontend(usb(reader), endpoint, TIMING, listen=True)
    await frontend.start()
    yield Guarded(frontend, address, authority)
    await frontend.stop()
    assert frontend.status == "closed"


async def test_who_connects_and_says_nothing_is_no_guest(guarded: Guarded) -> None:
    """It never comes through TLS's handshake, and keeps no guest out."""
    silent = await guarded.connect(None)
    guest = await guarded.connect(guarded.authority.client_context())
    await guest.greet()
    assert guarded.frontend.state == "attached"
    guest.writer.transport.abort()
    while guarded.frontend.state != "listening":
        await asyncio.sleep(0.001)
    silent.writer.close()


async def test_the_end_while_a_guest_is_silent(guarded: Guarded) -> None:
    silent = await guarded.connect(None)
    for _ in range(10):
        await asyncio.sleep(0)
    await guarded.frontend.stop()
    silent.writer.close()
