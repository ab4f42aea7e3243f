# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver under a sanitizer, and a daemon whose every byte the test decides."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DRIVER = ROOT / "pcscd-ifd"

#: Results of pcscd's API (PCSC/ifdhandler.h).
SUCCESS = "0"
ERROR_TAG = "600"
PROTOCOL_NOT_SUPPORTED = "607"
POWER_ACTION = "608"
COMMUNICATION_ERROR = "612"
NOT_SUPPORTED = "614"
PRESENT = "615"
NOT_PRESENT = "616"
NO_SUCH_DEVICE = "617"
INSUFFICIENT_BUFFER = "618"

#: Seconds a test waits for what must happen; never how long it takes.
PATIENCE = 15


class Stub:
    """pcscd_stub.c, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: dict[str, asyncio.Queue[str]] = {kind: asyncio.Queue() for kind in " &*"}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, program: Path) -> Stub:
        process = await asyncio.create_subprocess_exec(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            limit=1 << 20,
        )
        return cls(process)

    async def call(self, *words: object) -> str:
        """Call the driver and return its result."""
        await self.begin(*words)
        return await self.result()

    async def begin(self, *words: object) -> None:
        """Call the driver; with "&..." as the first word, `late` has its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        await self._process.stdin.drain()

    async def result(self) -> str:
        return await self._next(" ")

    async def late(self) -> str:
        return await self._next("&")

    async def event(self) -> str:
        """What the event thread saw next: "LUN empty", "LUN card LENGTH ATR" or "LUN unknown"."""
        return await self._next("*")

    async def end(self) -> None:
        """Let it leave, and see that the sanitizer found nothing."""
        assert self._process.stdin is not None and self._process.stderr is not None
        self._process.stdin.close()
        try:
            errors = await asyncio.wait_for(self._process.stderr.read(), PATIENCE)
            status = await asyncio.wait_for(self._process.wait(), PATIENCE)
        except TimeoutError:
            self._process.kill()
            raise
        finally:
            self._reader.cancel()
        assert (status, errors.decode()) == (0, "")

    async def _next(self, kind: str) -> str:
        return await asyncio.wait_for(self._lines[kind].get(), PATIENCE)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode().rstrip():
            if line[0] in "&*":
                self._lines[line[0]].put_nowait(line[2:])
            else:
                self._lines[" "].put_nowait(line)


class Peer:
    """One connection of the driver at the scripted daemon."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def receive(self, size: int) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(size), PATIENCE)

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def ended(self) -> bool:
        """Wait until the driver has closed this connection."""
        with suppress(ConnectionError):
            while await asyncio.wait_for(self._reader.read(65536), PATIENCE):
                pass
        return True

    def close(self) -> None:
        self.writer.close()


class Daemon:
    """Listens, and does nothing by itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._open: list[Peer] = []
        self._server: asyncio.AbstractServer | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, self.path, limit=1 << 20)

    async def stop(self) -> None:
        """Close everything, as a killed daemon does; the socket's file stays."""
        if self._server is not None:
            self._server.close()
        for peer in self._open:
            peer.close()
        self._open.clear()

    async def accept(self) -> Peer:
        return await asyncio.wait_for(self._peers.get(), PATIENCE)

    async def link(self) -> tuple[Peer, Peer]:
        """Both connections of the driver, after their HELLO: events, commands."""
        events, commands = await self.accept(), await self.accept()
        for peer, role in ((events, b"\x01"), (commands, b"\x02")):
            assert await peer.receive(17) == HELLO + role
            peer.send(HELLO, role)
        return events, commands

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self._open.append(peer)
        self._peers.put_nowait(peer)


#: Either side's HELLO, without its role.
HELLO = (
    b"\x01"  # kind: HELLO
    b"\x00"  # status
    b"\x00\x00\x00\x0b"  # length
    b"VCCIDIFD"  # magic
    b"\x00\x01"  # version
)

ATR = bytes.fromhex("3B 7A 18 00 00 73 66 74 65 2D 63 64 31 34 34")


def card(generation: int, atr: bytes = ATR) -> bytes:
    return (
        b"\x02"  # kind: CARD
        b"\x00"  # status
        + (9 + len(atr)).to_bytes(4, "big")  # length
        + (b"\x01" if atr else b"\x00")  # flag
        + generation.to_bytes(8, "big")
        + atr
    )


def seen(generation: int) -> bytes:
    return (
        b"\x03"  # kind: SEEN
        b"\x00"  # status
        b"\x00\x00\x00\x08" + generation.to_bytes(8, "big")  # length
    )


def frame(kind: int, payload: bytes = b"", status: int = 0) -> bytes:
    return bytes([kind, status]) + len(payload).to_bytes(4, "big") + payload


LUN = 0
SECOND_LUN = 1 << 16

UP, DOWN, RESET = 500, 501, 502
POWER_ON, POWER_OFF, RESET_KIND, TRANSMIT, CONTROL, BUSY = 0x10, 0x11, 0x12, 0x13, 0x14, 0x04

APDU = bytes.fromhex("00A4040007A000000079030000")
CARD_SEEN = f"0 card {len(ATR)} {ATR.hex()}"
EMPTY_SEEN = "0 empty"


async def powered(stub: Stub, daemon: Daemon) -> tuple[Peer, Peer]:
    """A reader whose card the event thread has powered up, and nothing under way."""
    assert await stub.call("open", LUN, daemon.path) == SUCCESS
    events, commands = await daemon.link()
    assert await stub.call("events", LUN) == SUCCESS
    events.send(card(1))
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    assert await events.receive(14) == seen(1)
    return events, commands


async def answer_power_on(commands: Peer) -> None:
    assert await commands.receive(6) == frame(POWER_ON)
    commands.send(frame(POWER_ON, ATR))


async def finish(stub: Stub) -> None:
    assert await stub.call("halt", LUN) == SUCCESS
    assert await stub.call("close", LUN) == SUCCESS


@pytest.fixture(scope="session", params=["address,undefined", "thread"])
def stub_program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("driver") / "pcscd_stub"
    sources = [Path(__file__).with_name("pcscd_stub.c"), *sorted(DRIVER.glob("*.c"))]
    subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", "-I/usr/include/PCSC", "-O1", "-g", "-pthread",
         "-Wall", "-Wextra", "-Werror", f"-fsanitize={request.param}",
         "-fno-sanitize-recover=undefined",
         "-Wl,--wrap=presence_lost,--wrap=link_seen", *sources, "-o", program],
        check=True,
        timeout=100,
    )  # fmt: skip
    return program


@pytest.fixture
async def stub(stub_program: Path) -> AsyncIterator[Stub]:
    stub = await Stub.start(stub_program)
    yield stub
    await stub.end()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    daemon = Daemon(tmp_path / "vccid0.ifd")
    await daemon.listen()
    yield daemon
    await daemon.stop()
