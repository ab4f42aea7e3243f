# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket as the file view uses it, against a server that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from vccid.files import link
from vccid.files.link import DaemonGone, Events, Link, Refused
from vccid.wire.varlink import Call, Decoder, Reply

Says = Callable[[Call], list[Reply] | None]


class Server:
    """A control socket; `says` answers each call, None hangs up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.says: Says = lambda call: []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        decoder = Decoder()
        while data := await reader.read(65536):
            for message in decoder.feed(data):
                replies = self.says(Call.parse(message))
                if replies is None:
                    writer.close()
                    return
                for reply in replies:
                    writer.write(reply.serialize())

    def send(self, **parameters: Any) -> None:
        self.writers[-1].write(Reply(parameters, continues=True).serialize())


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "control")
    listening = await asyncio.start_unix_server(server.serve, server.path)
    yield server
    listening.close()
    for writer in server.writers:
        writer.close()


def event(reader: str, kind: str = "card-inserted") -> dict[str, Any]:
    return {"readers": None, "event": {"kind": kind, "reader": reader, "detail": "ü"}}


async def test_calls_are_answered_in_order(server: Server) -> None:
    server.says = lambda call: [Reply({"method": call.method, **call.parameters})]
    connected = await Link.connect(server.path)
    answers = await asyncio.gather(connected.call("A"), connected.call("B", {"reader": "x"}))
    assert answers == [{"method": "io.vccid.A"}, {"method": "io.vccid.B", "reader": "x"}]
    await connected.close()
    assert connected.ended.done()


async def test_an_error_is_told(server: Server) -> None:
    server.says = lambda call: [Reply({"message": "no card"}, error="io.vccid.ReaderError")]
    connected = await Link.connect(server.path)
    with pytest.raises(Refused, match="no card"):
        await connected.call("CardInfo")
    await connected.close()


async def test_an_answer_nobody_waits_for_any_more(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: list[Reply] = []
    server.says = lambda call: replies
    connected = await Link.connect(server.path)
    with monkeypatch.context() as impatient:
        impatient.setattr(link, "PATIENCE", 0)
        with pytest.raises(TimeoutError):
            await connected.call("First")
    replies += [Reply({"of": "first"}), Reply({"of": "second"})]
    assert await connected.call("Second") == {"of": "second"}
    await connected.close()


@pytest.mark.parametrize("said", [None, [Reply({"x": "y" * (1 << 21)})]])
async def test_its_end_ends_calls(server: Server, said: list[Reply] | None) -> None:
    server.says = lambda call: said
    connected = await Link.connect(server.path)
    with pytest.raises(DaemonGone):
        await connected.call("Generation")
    await connected.ended
    with pytest.raises(DaemonGone):
        await connected.call("Generation")
    await connected.close()


async def test_nobody_listens(tmp_path: Path) -> None:
    for connecting in (Link.connect(tmp_path / "no"), Events.open(tmp_path / "no", "a")):
        with pytest.raises(DaemonGone, match="no daemon listens"):
            await connecting


async def test_events_of_one_reader_to_its_end(server: Server) -> None:
    server.says = lambda call: [Reply({"readers": [], "event": None}, continues=True)]
    events = await Events.open(server.path, "a")
    server.send(**event("b"))
    server.send(**event("a"))
    line = json.dumps(event("a"), ensure_ascii=False).encode() + b"\n"
    assert await events.read(10) == line[:10]
    assert await events.read(4096) == line[10:]
    with pytest.raises(BlockingIOError):
        await events.read(4096, wait=False)
    server.send(**event("a", "reader-removed"))
    server.send(**event("a"))
    assert b"reader-removed" in await events.read(4096)
    assert await events.read(4096) == b""
    events.close()


async def test_a_read_that_is_cancelled_loses_nothing(server: Server) -> None:
    server.says = lambda call: [Reply({"readers": [], "event": None}, continues=True)]
    events = await Events.open(server.path, "a")
    reading = asyncio.create_task(events.read(4096))
    await asyncio.sleep(0)
    reading.cancel()
    server.send(**event("a"))
    assert b"card-inserted" in await events.read(4096)
    events.close()


async def test_whether_events_are_there(server: Server) -> None:
    server.says = lambda call: [Reply({"readers": [], "event": None}, continues=True)]
    events = await Events.open(server.path, "a")
    woken = asyncio.Event()
    assert not events.ready(woken.set)
    with pytest.raises(BlockingIOError):
        await events.read(4096, wait=False)
    server.send(**event("a"))
    await woken.wait()
    assert events.ready(woken.set)
    assert b"card-inserted" in await events.read(4096)
    woken.clear()
    assert not events.ready(woken.set)
    events.close()
    await woken.wait()
    assert events.ready(woken.set)
    assert await events.read(4096) == b""


async def test_events_that_came_too_fast(server: Server) -> None:
    server.says = lambda call: [
        Reply({"readers": [], "event": None}, continues=True),
        Reply({"message": "too fast"}, error="io.vccid.Failed"),
    ]
    events = await Events.open(server.path, "a")
    with pytest.raises(Refused, match="too fast"):
        await events.read(4096)
    events.close()


async def test_no_more_connections(server: Server) -> None:
    server.says = lambda call: None
    with pytest.raises(DaemonGone, match="no further connection"):
        await Events.open(server.path, "a")
