# SPDX-License-Identifier: LGPL-2.1-or-later
"""Far cards, with a client that sends exactly what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.unit.fakes import ATR, FakeCard
from vccid.backends.far_listener import Limits
from vccid.backends.vsc import VscListener
from vccid.errors import CardBusy, CardRemoved, NotPermitted, ReaderError
from vccid.links.transport import Endpoint, parse_address
from vccid.process.log_rate_limit import BURST
from vccid.reader import Reader
from vccid.wire import vsc

LIMITS = Limits(readers=2, init=2.0, answer=5.0, idle=60.0)
COMMAND = bytes.fromhex("00A4040007A0000000790100")


class Pool:
    """Readers for far cards."""

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.full = False

    async def add(self, name: str, peer: str) -> Reader:
        if self.full:
            raise ReaderError("full")
        self.readers.append(Reader(name))
        return self.readers[-1]

    async def remove(self, reader: Reader) -> None:
        assert reader.card is None
        self.readers.remove(reader)


class Client:
    """A VSC client, a message at a time."""

    def __init__(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = stream
        self.writer = writer

    async def receive(self) -> vsc.Message | vsc.Unknown | None:
        """The next message; None at the end of the stream."""
        try:
            header = await asyncio.wait_for(self._stream.readexactly(12), 5)
            payload = await self._stream.readexactly(int.from_bytes(header[8:], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return next(iter(vsc.Parser().feed(header + payload)))

    def send(self, *messages: vsc.Message) -> None:
        self.writer.write(b"".join(map(vsc.serialize, messages)))

    async def ask(self, message: vsc.Message) -> vsc.Message | vsc.Unknown | None:
        self.send(message)
        return await self.receive()

    async def add(self, name: str = "far") -> None:
        assert await self.ask(vsc.Init(0)) == vsc.Init(vsc.UNDEFINED_READER_ID)
        assert await self.ask(vsc.ReaderAdd(0, name)) == vsc.Error(0, vsc.SUCCESS)


Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
async def listener(tmp_path: Path, pool: Pool) -> AsyncIterator[VscListener]:
    listener = VscListener(Endpoint(parse_address(f"{tmp_path}/vsc.sock")), pool, LIMITS)
    await listener.start()
    yield listener
    await listener.close()
    assert pool.readers == []


@pytest.fixture
async def connect(tmp_path: Path, listener: VscListener) -> AsyncIterator[Connect]:
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> Client:
        stream, writer = await asyncio.open_unix_connection(tmp_path / "vsc.sock")
        writers.append(writer)
        return Client(stream, writer)

    yield connect
    for writer in writers:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    """The test's own time limit bounds it."""
    while not condition():
        await asyncio.sleep(0.001)


async def test_the_seeds_table_of_events(connect: Connect, pool: Pool) -> None:
    client = await connect()
    await client.add("far")
    (reader,) = pool.readers
    assert reader.name == "far"
    assert await client.ask(vsc.Atr(0, ATR)) == vsc.Error(0, vsc.SUCCESS)
    assert reader.card is not None
    assert reader.card.atr == ATR
    session = await reader.power_on()
    answer = asyncio.ensure_future(session.transmit(COMMAND))
    assert await client.receive() == vsc.Apdu(0, COMMAND)
    client.send(vsc.Apdu(0, b"\x90\x00"))
    assert await answer == b"\x90\x00"
    assert await client.ask(vsc.CardRemove(0)) == vsc.Error(0, vsc.SUCCESS)
    assert reader.card is None
    assert await client.ask(vsc.ReaderRemove(0)) == vsc.Error(0, vsc.SUCCESS)
    assert pool.readers == []


@pytest.mark.parametrize("moment", ["init", "reader", "card", "command", "half a message"])
async def test_a_client_killed_leaves_nothing(connect: Connect, pool: Pool, moment: str) -> None:
    client = await connect()
    answer = None
    if moment == "init":
        await client.ask(vsc.Init(0))
    else:
        await client.add()
        if moment != "reader":
            await client.ask(vsc.Atr(0, ATR))
            session = await pool.readers[0].power_on()
            answer = asyncio.ensure_future(session.transmit(COMMAND))
            await client.receive()
        if moment == "half a message":
            client.writer.write(vsc.serialize(vsc.Apdu(0, b"\x90\x00"))[:-1])
            await client.writer.drain()
    client.writer.transport.abort()
    if answer is not None:
        with pytest.raises(CardRemoved):
            await answer
    await until(lambda: pool.readers == [])


async def test_several_clients_and_the_one_too_many(connect: Connect, pool: Pool) -> None:
    clients = [await connect() for _ in range(3)]
    await clients[0].add("one")
    await clients[1].add("two")
    await clients[2].ask(vsc.Init(0))
    refused = vsc.Error(vsc.UNDEFINED_READER_ID, vsc.CANNOT_ADD_MORE_READERS)
    assert await clients[2].ask(vsc.ReaderAdd(0, "three")) == refused
    clients[0].writer.close()
    await until(lambda: len(pool.readers) == 1)
    assert await clients[2].ask(vsc.ReaderAdd(0, "three")) == vsc.Error(0, vsc.SUCCESS)
    pool.full = True
    assert await clients[2].ask(vsc.ReaderAdd(0, "four")) == refused


async def test_clients_without_a_reader_are_not_taken_for_ever(connect: Connect) -> None:
    clients = [await connect() for _ in range(2 * LIMITS.readers)]
    for client in clients:
        assert await client.ask(vsc.Init(0)) == vsc.Init(vsc.UNDEFINED_READER_ID)
    refused = await connect()
    assert await refused.receive() is None
    added = vsc.Error(0, vsc.SUCCESS)
    assert await clients[0].ask(vsc.ReaderAdd(0, "one")) == added


async def test_clients_of_no_use_have_their_share_of_the_log(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2 * BURST):
        client = await connect()
        client.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert await client.receive() is None
        client.writer.close()
    told = [line for line in caplog.messages if line.startswith("VSC client")]
    assert 1 <= len(told) <= BURST + 1


async def test_two_readers_of_one_client(connect: Connect, pool: Pool) -> None:
    client = await connect()
    await client.add("one")
    assert await client.ask(vsc.ReaderAdd(0, "two")) == vsc.Error(1, vsc.SUCCESS)
    await client.ask(vsc.Atr(1, ATR))
    assert [reader.card is not None for reader in pool.readers] == [False, True]
    session = await pool.readers[1].power_on()
    answer = asyncio.ensure_future(session.transmit(COMMAND))
    assert await client.receive() == vsc.Apdu(1, COMMAND)
    client.send(vsc.Apdu(0, b"\x6f\x00"), vsc.Apdu(1, b"\x90\x00"))
    assert await answer == b"\x90\x00"


@pytest.mark.parametrize(
    ("atr", "code"),
    [
        (ATR, vsc.SUCCESS),
        (b"", vsc.GENERAL_ERROR),
        (b"\x3b", vsc.GENERAL_ERROR),
        (b"\x00\x00", vsc.GENERAL_ERROR),
        (b"\x3b" + bytes(33), vsc.GENERAL_ERROR),
        (b"\x3b" + bytes(40), vsc.GENERAL_ERROR),  # 41 bytes, which QEMU refuses too
    ],
)
async def test_what_is_no_atr(connect: Connect, pool: Pool, atr: bytes, code: int) -> None:
    client = await connect()
    await client.add()
    assert await client.ask(vsc.Atr(0, atr)) == vsc.Error(0, code)
    assert (pool.readers[0].card is not None) == (code == vsc.SUCCESS)


async def test_an_atr_again_is_another_card(connect: Connect, pool: Pool) -> None:
    client = await connect()
    await client.add()
    await client.ask(vsc.Atr(0, ATR))
    session = await pool.readers[0].power_on()
    await client.ask(vsc.Atr(0, ATR))
    assert pool.readers[0].generation == 3
    with pytest.raises(CardRemoved):
        session.execute(COMMAND)


async def test_wrong_reader_ids(connect: Connect, pool: Pool) -> None:
    client = await connect()
    await client.add()
    for message in (vsc.Atr(7, ATR), vsc.CardRemove(7), vsc.Apdu(7, b"\x90\x00"), vsc.Flush(7)):
        assert await client.ask(message) == vsc.Error(7, vsc.GENERAL_ERROR)
    # A client that clears away what a crash may have left is not told off.
    assert await client.ask(vsc.ReaderRemove(7)) == vsc.Error(7, vsc.SUCCESS)
    assert pool.readers[0].card is None


async def test_a_type_nobody_knows_is_refused_and_the_rest_goes_on(connect: Connect) -> None:
    client = await connect()
    await client.add()
    client.writer.write(bytes.fromhex("0000000b" "00000000" "00000001" "00"))
    assert await client.receive() == vsc.Error(0, vsc.GENERAL_ERROR)
    assert await client.ask(vsc.Atr(0, ATR)) == vsc.Error(0, vsc.SUCCESS)


@pytest.mark.parametrize(
    "wire",
    [
        "00000003" "00000000" "00000000",  # ReaderAdd before Init
        "00000001" "00000000" "0000000c" "00000000" "00000002" "00000000",  # wrong magic
        "00000007" "00000000" "7fffffff",  # an APDU of 2 GiB
        "00000001"
        "00000000"
        "0000000c"
        "56534344"
        "00000002"
        "00000000"
        "00000007"
        "00000000"
        "00000002"
        "9000" + "ff" * 12,  # an APDU longer than announced
    ],
)
async def test_who_breaks_the_protocol_is_dropped(connect: Connect, wire: str) -> None:
    client = await connect()
    client.writer.write(bytes.fromhex(wire))
    while await client.receive() is not None:
        pass  # answers to what was right before


async def test_one_byte_at_a_time(connect: Connect, pool: Pool) -> None:
    client = await connect()
    for byte in b"".join(
        vsc.serialize(message)
        for message in (vsc.Init(0), vsc.ReaderAdd(0, "slow"), vsc.Atr(0, ATR))
    ):
        client.writer.write(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0)
    await until(lambda: bool(pool.readers) and pool.readers[0].card is not None)


async def test_half_open_clients_are_dropped(tmp_path: Path, pool: Pool) -> None:
    path = f"{tmp_path}/brief.sock"
    listener = VscListener(Endpoint(parse_address(path)), pool, Limits(init=0.05))
    await listener.start()
    stream, writer = await asyncio.open_unix_connection(path)
    writer.write(b"\x00\x00\x00\x01")
    assert await stream.read() == b""
    writer.close()
    await listener.close()


async def test_one_host_at_a_time(connect: Connect, pool: Pool) -> None:
    client = await connect()
    await client.add()
    await client.ask(vsc.Atr(0, ATR))
    reader = pool.readers[0]
    first = await reader.power_on()
    with pytest.raises(CardBusy):
        await reader.power_on()
    reader.power_off(first)
    await reader.power_on()


async def test_an_idle_owner_loses_the_card(tmp_path: Path, pool: Pool) -> None:
    path = f"{tmp_path}/idle.sock"
    listener = VscListener(Endpoint(parse_address(path)), pool, Limits(idle=0.0))
    await listener.start()
    stream, writer = await asyncio.open_unix_connection(path)
    client = Client(stream, writer)
    await client.add()
    await client.ask(vsc.Atr(0, ATR))
    reader = pool.readers[0]
    first = await reader.power_on()
    second = await reader.power_on()
    with pytest.raises(CardRemoved):
        first.execute(COMMAND)
    reader.power_off(first)  # late, and must not take the card from the second
    answer = asyncio.ensure_future(second.transmit(COMMAND))
    await client.receive()
    client.send(vsc.Apdu(0, b"\x90\x00"))
    assert await answer == b"\x90\x00"
    writer.close()
    await listener.close()


async def test_an_answer_to_an_ended_session_goes_to_nobody(connect: Connect, pool: Pool) -> None:
    client = await connect()
    await client.add()
    await client.ask(vsc.Atr(0, ATR))
    reader = pool.readers[0]
    first = await reader.power_on()
    lost = asyncio.ensure_future(first.transmit(COMMAND))
    await client.receive()
    reader.power_off(first)
    with pytest.raises(CardRemoved):
        await lost
    second = await reader.power_on()
    answer = asyncio.ensure_future(second.transmit(bytes(4)))
    client.send(vsc.Apdu(0, b"\x6f\x00"))
    assert await client.receive() == vsc.Apdu(0, bytes(4))
    client.send(vsc.Apdu(0, b"\x90\x00"))
    assert await answer == b"\x90\x00"


async def test_a_card_that_never_answers_costs_the_connection(tmp_path: Path, pool: Pool) -> None:
    path = f"{tmp_path}/mute.sock"
    listener = VscListener(Endpoint(parse_address(path)), pool, Limits(answer=0.05))
    await listener.start()
    client = Client(*await asyncio.open_unix_connection(path))
    await client.add()
    await client.ask(vsc.Atr(0, ATR))
    session = await pool.readers[0].power_on()
    with pytest.raises(CardRemoved):
        await session.transmit(COMMAND)
    client.writer.close()
    await listener.close()
    assert pool.readers == []


@pytest.mark.parametrize("answer", [vsc.Error(0, 0x02000000), vsc.Apdu(0, b"")])
async def test_a_command_the_client_could_not_run(
    connect: Connect, pool: Pool, answer: vsc.Message
) -> None:
    client = await connect()
    await client.add()
    await client.ask(vsc.Atr(0, ATR))
    session = await pool.readers[0].power_on()
    response = asyncio.ensure_future(session.transmit(COMMAND))
    await client.receive()
    client.send(answer)
    assert await response == b"\x6f\x00"


async def test_a_command_vscclient_would_die_of(connect: Connect, pool: Pool) -> None:
    client = await connect()
    await client.add()
    await client.ask(vsc.Atr(0, ATR))
    session = await pool.readers[0].power_on()
    assert await session.transmit(bytes(271)) == b"\x67\x00"


async def test_another_card_in_the_way(connect: Connect, pool: Pool) -> None:
    client = await connect()
    await client.add()
    reader = pool.readers[0]
    reader.insert(FakeCard())
    assert await client.ask(vsc.Atr(0, ATR)) == vsc.Error(0, vsc.CARD_ALREADY_INSERTED)
    reader.remove()


async def test_the_listener_closes_under_its_clients(
    connect: Connect, pool: Pool, listener: VscListener
) -> None:
    client = await connect()
    await client.add()
    await client.ask(vsc.Atr(0, ATR))
    await listener.close()
    assert await client.receive() is None
    assert pool.readers == []


def test_plain_tcp_stays_at_home(pool: Pool) -> None:
    with pytest.raises(NotPermitted):
        VscListener(Endpoint(parse_address("0.0.0.0:2001")), pool)
