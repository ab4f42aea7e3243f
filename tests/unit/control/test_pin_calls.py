# SPDX-License-Identifier: LGPL-2.1-or-later
"""AskedPin and EnterPin on the control socket of a daemon whose reader has a PIN pad."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.frontends.pcsc.test_pin_pad_controls import VERIFY_STRUCTURE
from vccid.ccid.pin_entry import PinEnd, PinOperation, PinRequest
from vccid.control.callers import Access
from vccid.control.methods import Methods
from vccid.control.server import ControlServer
from vccid.frontends.pin_pad import PinPad
from vccid.readers.manager import ReaderManager
from vccid.settings.config import ReaderSettings, Settings
from vccid.settings.directories import Directories
from vccid.wire.varlink import MAX_MESSAGE_BYTES

REQUEST = PinRequest.parse_part10(PinOperation.VERIFY, VERIFY_STRUCTURE)
PINS = [base64.b64encode(b"123456").decode()]
SETTINGS = Settings(readers={"office": ReaderSettings(ifd=False, pin_pad=True)})


class Control:
    """A control socket, and the pad behind it."""

    def __init__(self, path: Path, pad: PinPad) -> None:
        self._path = path
        self.pad = pad

    async def connect(self) -> Peer:
        return Peer(*await asyncio.open_unix_connection(self._path))

    def ask(self, host: str) -> asyncio.Task[tuple[str, ...] | PinEnd]:
        return asyncio.ensure_future(self.pad.ask(host, REQUEST))


class Peer:
    """One that calls."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, method: str, oneway: bool = False, **parameters: Any) -> None:
        parameters = {"reader": "office", **parameters} if "Pin" in method else parameters
        call = {"method": f"io.vccid.{method}", "parameters": parameters, "oneway": oneway}
        self.writer.write(json.dumps(call).encode() + b"\0")

    async def receive(self) -> dict[str, Any]:
        """The next answer's parameters."""
        message = await asyncio.wait_for(self.reader.readuntil(b"\0"), 10)
        parameters: dict[str, Any] = json.loads(message[:-1])["parameters"]
        return parameters

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.send(method, **parameters)
        return await self.receive()


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    manager = ReaderManager(Directories(tmp_path, tmp_path, tmp_path, None), SETTINGS)
    await manager.start()
    pad = manager.readers.find("office").pin_pad
    assert pad is not None
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "control"))
    server = ControlServer(Methods(manager, SETTINGS, ""), Access(""))
    await server.start(listening)
    yield Control(tmp_path / "control", pad)
    await server.stop()


async def test_a_pin_goes_to_the_host_that_was_shown_or_to_nobody(control: Control) -> None:
    peer = await control.connect()
    control.ask("first")
    asked = await peer.call("AskedPin", wait=5)
    assert (asked["host"], asked["prompts"]) == ("first", ["current"])
    control.pad.first().cancel()
    second = control.ask("second")
    refused = await peer.call("EnterPin", entry=asked["entry"], pins=PINS)
    assert "does not wait for it any more" in refused["message"]
    refused = await peer.call("EnterPin", entry=asked["entry"], end="cancel")
    assert "does not wait for it any more" in refused["message"]
    asked = await peer.call("AskedPin")
    assert await peer.call("EnterPin", entry=asked["entry"], pins=PINS) == {
        "reader": "office",
        "host": "second",
    }
    assert await second == ("123456",)


async def test_a_named_entry_is_not_waited_for(control: Control) -> None:
    peer = await control.connect()
    control.ask("host")
    asked = await peer.call("AskedPin", wait=5)
    refused = await peer.call("EnterPin", entry=asked["entry"], pins=PINS, wait=5)
    assert refused == {"parameter": "wait"}


async def test_without_a_name_it_goes_to_whoever_asks_first(control: Control) -> None:
    peer = await control.connect()
    peer.send("EnterPin", pins=PINS, wait=5)
    host = control.ask("host")
    assert (await peer.receive())["host"] == "host"
    assert await host == ("123456",)


@pytest.mark.parametrize("how", ["hung up", "ended its half"])
async def test_who_hangs_up_while_it_waits_types_nothing(control: Control, how: str) -> None:
    peer = await control.connect()
    peer.send("EnterPin", pins=PINS, wait=60)
    await asyncio.sleep(0.05)
    if how == "hung up":
        peer.writer.close()
    else:
        peer.writer.write_eof()
    assert await peer.reader.read() == b""
    await asyncio.sleep(0.05)  # until the daemon has noticed too
    host = control.ask("host")
    other = await control.connect()
    assert (await other.call("AskedPin"))["host"] == "host"
    assert not host.done()
    assert (await other.call("EnterPin", end="cancel"))["host"] == "host"


async def test_what_was_sent_behind_a_withdrawn_call_is_not_done(control: Control) -> None:
    peer = await control.connect()
    peer.send("EnterPin", pins=PINS, wait=60)
    peer.send("AddReader", name="second")
    await asyncio.sleep(0.05)
    peer.writer.write_eof()
    assert await peer.reader.read() == b""
    readers = (await (await control.connect()).call("ListReaders"))["readers"]
    assert [reader["name"] for reader in readers] == ["office"]


async def test_calls_behind_one_that_waits_are_answered_in_order(control: Control) -> None:
    peer = await control.connect()
    peer.send("AskedPin", wait=60)
    for _ in range(3):
        await asyncio.sleep(0.01)
        peer.send("Generation")
    control.ask("host")
    assert (await peer.receive())["host"] == "host"
    for _ in range(3):
        assert "generation" in await peer.receive()
    peer.send("EnterPin", pins=PINS)
    assert (await peer.receive())["host"] == "host"


async def test_too_many_calls_behind_one_that_waits_end_the_connection(control: Control) -> None:
    peer = await control.connect()
    peer.send("EnterPin", pins=PINS, wait=60)
    peer.writer.write(MAX_MESSAGE_BYTES * b"\0" + b"\0")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(peer.reader.read(), 10) == b""
    host = control.ask("host")
    await asyncio.sleep(0.05)
    assert not host.done()


@pytest.mark.parametrize("asks", [False, True])
async def test_who_does_not_wait_may_end_its_half(control: Control, asks: bool) -> None:
    if asks:
        control.ask("host")
    peer = await control.connect()
    peer.send("EnterPin", pins=PINS)
    peer.writer.write_eof()
    answer = await peer.receive()
    assert (answer["host"] == "host") if asks else ("no host asks" in answer["message"])


async def test_a_oneway_call_needs_no_peer(control: Control) -> None:
    peer = await control.connect()
    peer.send("EnterPin", oneway=True, pins=PINS, wait=10)
    await peer.writer.drain()
    peer.writer.close()
    await asyncio.sleep(0.05)
    assert await control.ask("host") == ("123456",)
