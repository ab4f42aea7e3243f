# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket: whose errors are whose, and no connection outlives its end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from vccid.control.call_parameters import Taker
from vccid.control.callers import Access, Peer
from vccid.control.methods import Methods
from vccid.control.server import ControlServer
from vccid.errors import NotPermitted
from vccid.process.log_rate_limit import BURST
from vccid.wire.varlink import Parameters

CALL = b'{"method":"org.varlink.manager.GetInfo"}\0'


@pytest.mark.parametrize("turns", range(12))
def test_a_call_at_the_end_does_not_keep_the_connection(tmp_path: Path, turns: int) -> None:
    """The end comes some turns of the loop behind the call: before, in and after its reply."""

    async def call_and_stop() -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "control"))
        server = ControlServer(cast(Methods, None), Access(""))
        await server.start(listening)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        writer.write(CALL)
        await reader.readuntil(b"\0")
        writer.write(CALL)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await server.stop()
        writer.close()

    asyncio.run(call_and_stop())


class Closed(Access):
    """Admits nobody."""

    def admits(self, peer: Peer) -> bool:
        return False


async def reply_to(tmp_path: Path, method: str, access: type[Access], error: Exception) -> Any:
    """What a peer hears of a call that comes to an error."""

    async def attach(given: Taker) -> Parameters:
        raise error

    async def monitor(given: Taker) -> AsyncIterator[Parameters]:
        raise error
        yield {}

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "control"))
    methods = SimpleNamespace(table={"Attach": attach}, monitor=monitor)
    server = ControlServer(cast(Methods, methods), access(""))
    await server.start(listening)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
    writer.write(json.dumps({"method": f"io.vccid.{method}", "more": True}).encode() + b"\0")
    reply = json.loads((await reader.readuntil(b"\0"))[:-1])
    writer.close()
    await server.stop()
    return reply


@pytest.mark.parametrize(
    ("access", "told"), [(Access, "io.vccid.Failed"), (Closed, "io.vccid.NotPermitted")]
)
@pytest.mark.parametrize("method", ["Attach", "Monitor"])
async def test_not_permitted_is_only_who_may_not_call(
    tmp_path: Path, method: str, access: type[Access], told: str
) -> None:
    error = NotPermitted("the attach file cannot be written by the daemon")
    assert (await reply_to(tmp_path, method, access, error))["error"] == told


@pytest.mark.parametrize("method", ["Attach", "Monitor"])
async def test_whatever_a_call_comes_to_is_answered(
    tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await reply_to(tmp_path, method, Access, RuntimeError("can't start new thread"))
    assert reply["error"] == "io.vccid.Failed"
    assert "can't start new thread" in reply["parameters"]["message"]
    assert "Traceback" in caplog.text


async def test_a_strangers_lines_in_the_log_are_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "control"))
    server = ControlServer(cast(Methods, None), Closed(""))
    await server.start(listening)
    for _ in range(3 * BURST):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        writer.write(b"noise\0")
        assert await reader.read() == b""
        writer.close()
    assert len(caplog.records) == BURST
    await server.stop()
