# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VSC client against a host that says exactly what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.fakes import ATR, FakeCard, echo
from vccid.errors import NotPermitted
from vccid.frontends.dialling import Timing
from vccid.frontends.guest.vsc import VscFrontend
from vccid.links.transport import Endpoint, parse_address
from vccid.reader import Event, Reader
from vccid.wire import vsc

TIMING = Timing(ready=2.0, first_retry=0.01, last_retry=0.05, exchange=0.05, leave=0.5)


class Qemu:
    """A listening VSC host, driven line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._accept, self.path)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.connections.put(Connection(reader, writer))

    async def accept(self) -> Connection:
        return await asyncio.wait_for(self.connections.get(), 5)

    async def accept_reader(self) -> Connection:
        """Up to where QEMU has the reader."""
        connection = await self.accept()
        assert await connection.receive() == vsc.Init(0)
        connection.send(vsc.Init(vsc.UNDEFINED_READER_ID))
        assert await connection.receive() == vsc.ReaderRemove(0)
        assert await connection.receive() == vsc.ReaderAdd(0, "vccid0")
        connection.send(vsc.Error(0, vsc.SUCCESS), vsc.Error(5, vsc.SUCCESS))
        return connection


class Connection:
    """One client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._parser = vsc.Parser()
        self._messages: list[vsc.Message | vsc.Unknown] = []

    async def receive(self) -> vsc.Message | vsc.Unknown | None:
        """The next message; None at the end of the stream."""
        while not self._messages:
            data = await asyncio.wait_for(self._reader.read(65536), 5)
            if not data:
                return None
            self._messages += self._parser.feed(data)
        return self._messages.pop(0)

    def send(self, *messages: vsc.Message) -> None:
        self.writer.write(b"".join(map(vsc.serialize, messages)))

    async def ask(self, command: bytes) -> vsc.Message | vsc.Unknown | None:
        self.send(vsc.Apdu(0, command))
        return await self.receive()

    async def take_card(self) -> None:
        assert await self.receive() == vsc.Atr(5, ATR)
        self.send(vsc.Error(5, vsc.SUCCESS))


@pytest.fixture
async def qemu(tmp_path: Path) -> AsyncIterator[Qemu]:
    host = Qemu(tmp_path / "ccid.sock")
    await host.start()
    yield host
    host.server.close()


@pytest.fixture
def reader() -> Reader:
    return Reader("vccid0")


@pytest.fixture
async def frontend(qemu: Qemu, reader: Reader) -> AsyncIterator[VscFrontend]:
    frontend = VscFrontend(reader, Endpoint(parse_address(str(qemu.path))), TIMING)
    await frontend.start()
    yield frontend
    await frontend.stop()


async def test_the_seeds_table_of_events(qemu: Qemu, reader: Reader, frontend: VscFrontend) -> None:
    host = await qemu.accept_reader()
    generation = reader.insert(FakeCard())
    await host.take_card()
    assert await reader.wait_seen(generation, 2)
    assert await host.ask(bytes.fromhex("00A4000C")) == vsc.Apdu(
        5, bytes.fromhex("00A4000C" "9000")
    )
    generation = reader.remove()
    assert await host.receive() == vsc.CardRemove(5)
    host.send(vsc.Error(5, vsc.SUCCESS))
    assert await reader.wait_seen(generation, 2)
    await frontend.stop()
    # The table's last line: nothing is left in the guest.


async def test_the_links_lines_have_the_readers_name(
    qemu: Qemu, frontend: VscFrontend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "vccid.frontends")
    host = await qemu.accept_reader()
    host.send(vsc.Error(5, vsc.SUCCESS))
    while "unasked" not in caplog.text:
        await asyncio.sleep(0.01)
    assert {record.__dict__["reader"] for record in caplog.records} == {"vccid0"}
    assert {record.name for record in caplog.records} == {
        "vccid.frontends.dialling", "vccid.frontends.guest.vsc_connection"
    }  # fmt: skip


async def test_card_and_reader_leave_the_guest_before_we_hang_up(
    qemu: Qemu, reader: Reader, frontend: VscFrontend
) -> None:
    reader.insert(FakeCard())
    host = await qemu.accept_reader()
    await host.take_card()
    closing = asyncio.create_task(frontend.stop())
    assert await host.receive() == vsc.CardRemove(5)
    assert await host.receive() == vsc.ReaderRemove(5)
    assert not closing.done(), "hangs up before QEMU has read it"
    host.send(vsc.Error(5, vsc.SUCCESS), vsc.Error(5, vsc.SUCCESS))
    assert await host.receive() is None
    await closing
    assert reader.hosts == set()
    assert frontend.status == "closed"


async def test_a_host_that_takes_no_leave_is_left(
    qemu: Qemu, reader: Reader, frontend: VscFrontend
) -> None:
    host = await qemu.accept_reader()
    while not reader.hosts:
        await asyncio.sleep(0)
    await frontend.stop()
    assert await host.receive() == vsc.ReaderRemove(5)
    assert await host.receive() is None


async def test_another_card_is_seen_as_another(
    qemu: Qemu, reader: Reader, frontend: VscFrontend
) -> None:
    reader.insert(FakeCard())
    host = await qemu.accept_reader()
    await host.take_card()
    reader.remove()
    generation = reader.insert(FakeCard())
    assert await host.receive() == vsc.CardRemove(5)
    host.send(vsc.Error(5, vsc.SUCCESS))
    await host.take_card()
    assert await reader.wait_seen(generation, 2)


async def test_a_killed_qemu_is_dialled_again(
    qemu: Qemu, reader: Reader, frontend: VscFrontend
) -> None:
    card = FakeCard()
    reader.insert(card)
    host = await qemu.accept_reader()
    await host.take_card()
    await host.ask(bytes.fromhex("00A4000C"))
    host.writer.transport.abort()
    host = await qemu.accept_reader()
    await host.take_card()
    await host.ask(bytes.fromhex("00A4000C"))
    first, second = card.sessions
    assert first.closed.is_set()
    assert not second.closed.is_set()
    assert frontend.connections == 2


async def test_two_inits_and_flush(qemu: Qemu, reader: Reader, frontend: VscFrontend) -> None:
    host = await qemu.accept_reader()
    host.send(vsc.Init(vsc.UNDEFINED_READER_ID), vsc.Flush(0))
    assert await host.receive() == vsc.FlushComplete(5)


async def test_flush_waits_for_the_command_under_way(
    qemu: Qemu, reader: Reader, frontend: VscFrontend
) -> None:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    reader.insert(FakeCard(lambda command: answer))
    host = await qemu.accept_reader()
    await host.take_card()
    host.send(vsc.Apdu(0, bytes(4)), vsc.Flush(0))
    host.send(vsc.Init(vsc.UNDEFINED_READER_ID))
    answer.set_result(b"\x90\x00")
    assert await host.receive() == vsc.Apdu(5, b"\x90\x00")
    assert await host.receive() == vsc.FlushComplete(5)


async def test_an_answer_the_guest_gave_up_is_not_sent(
    qemu: Qemu, reader: Reader, frontend: VscFrontend
) -> None:
    """A reset guest asks anew; QEMU would take the old answer for the new one."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    answers = iter([answer, b"\x6a\x82"])
    reader.insert(FakeCard(lambda command: next(answers)))
    host = await qemu.accept_reader()
    await host.take_card()
    host.send(vsc.Apdu(0, bytes(4)))
    host.send(vsc.Apdu(0, bytes(4)))
    while frontend.commands < 2:
        await asyncio.sleep(0)
    answer.set_result(b"\x90\x00")
    assert await host.receive() == vsc.Apdu(5, b"\x6a\x82")


async def test_a_card_pulled_under_a_command_sends_no_answer(
    qemu: Qemu, reader: Reader, frontend: VscFrontend
) -> None:
    never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    reader.insert(FakeCard(lambda command: never))
    host = await qemu.accept_reader()
    await host.take_card()
    host.send(vsc.Apdu(0, bytes(4)))
    while not frontend.commands:
        await asyncio.sleep(0)
    reader.remove()
    assert await host.receive() == vsc.CardRemove(5)
    host.send(vsc.Error(5, vsc.SUCCESS), vsc.Flush(0))
    assert await host.receive() == vsc.FlushComplete(5)


async def test_a_session_taken_by_another_host_is_a_new_card_to_the_guest(
    qemu: Qemu, reader: Reader, frontend: VscFrontend
) -> None:
    card = FakeCard()
    reader.insert(card)
    host = await qemu.accept_reader()
    await host.take_card()
    await host.ask(bytes(4))
    card.sessions[0].close()
    assert await host.ask(bytes(4)) == vsc.CardRemove(5)
    host.send(vsc.Error(5, vsc.SUCCESS))
    await host.take_card()
    assert await host.ask(bytes(4)) == vsc.Apdu(5, echo(bytes(4)))


@pytest.mark.parametrize(
    "wire",
    [
        "00000001" "00000000" "0000000c" "00000000" "00000002" "00000000",  # wrong magic
        "00000007" "00000000" "7fffffff",  # an APDU of 2 GiB
        "00000003" "00000000" "00000000",  # a host has no reader to add
    ],
)
async def test_a_host_that_breaks_the_protocol_is_dropped(
    qemu: Qemu, reader: Reader, frontend: VscFrontend, wire: str
) -> None:
    host = await qemu.accept_reader()
    host.writer.write(bytes.fromhex(wire))
    assert await host.receive() is None
    await qemu.accept_reader()


async def test_a_refused_reader(qemu: Qemu, reader: Reader, frontend: VscFrontend) -> None:
    host = await qemu.accept()
    host.send(
        vsc.Init(vsc.UNDEFINED_READER_ID),
        vsc.Error(0, vsc.SUCCESS),
        vsc.Error(vsc.UNDEFINED_READER_ID, vsc.CANNOT_ADD_MORE_READERS),
    )
    while await host.receive() is not None:
        pass
    await qemu.accept()
    assert "takes no reader" in frontend.trouble


async def test_a_t1_card_is_not_shown(qemu: Qemu, reader: Reader, frontend: VscFrontend) -> None:
    t1 = bytes.fromhex("3BF71300008131FE458031C173C021C0CD")
    host = await qemu.accept_reader()
    generation = reader.insert(FakeCard(atr=t1))
    assert await reader.wait_seen(generation, 2)
    host.send(vsc.Flush(0))
    assert await host.receive() == vsc.FlushComplete(5)


async def test_hosts_come_and_go(qemu: Qemu, tmp_path: Path) -> None:
    events: list[Event] = []
    reader = Reader("vccid0", events.append)
    frontend = VscFrontend(reader, Endpoint(parse_address(str(qemu.path))), TIMING)
    await frontend.start()
    host = await qemu.accept_reader()
    while not reader.hosts:
        await asyncio.sleep(0)
    host.writer.transport.abort()
    while reader.hosts:
        await asyncio.sleep(0)
    assert [event.kind for event in events] == ["host-attached", "host-detached"]
    await frontend.stop()


async def test_half_open_host_is_given_up(qemu: Qemu, reader: Reader) -> None:
    endpoint = Endpoint(parse_address(str(qemu.path)))
    frontend = VscFrontend(reader, endpoint, Timing(ready=0.05, first_retry=0.01))
    await frontend.start()
    silent = await qemu.accept()
    await qemu.accept()
    assert not silent.writer.is_closing()  # kept open until here
    assert "does not greet" in frontend.trouble
    await frontend.stop()


def test_plain_tcp_stays_at_home(reader: Reader) -> None:
    with pytest.raises(NotPermitted, match="in the clear"):
        VscFrontend(reader, Endpoint(parse_address("192.0.2.1:2001")))
    VscFrontend(reader, Endpoint(parse_address("192.0.2.1:2001"), allow_plain=True))
    VscFrontend(reader, Endpoint(parse_address("[::1]:2001")))
