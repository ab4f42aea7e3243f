# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon with plain cards, in a process that a test can stop, kill and start again.

    with PlainDaemon([path]) as daemon:
        daemon.ask("insert 0")

A path that ends in .tty becomes the link to a pseudo-terminal; one that ends in .comm the socket
of libpcsclite's own protocol, where all readers are shown; any other the driver's socket.
The child is this same file, run as a program; each line it reads is answered by one line:
insert N, insert-t1 N, exchange N, remove N and seen N (wait until every host has seen it: True
or False), attached N (wait until there is a host), hosts N, working N (wait until a card works
at WAIT), finish N, and, at the sockets of libpcsclite's protocol, hide N and show N.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.peers.plain_card import ATR_T0, ATR_T1, PlainCard
from vccid.frontends.pcsc.driver import IfdFrontend
from vccid.frontends.pcsc.registry import Registry
from vccid.frontends.pcsc.server import PcscServer
from vccid.frontends.serial.pty import PtyFrontend
from vccid.reader import Reader

ROOT = Path(__file__).parents[2]

#: Programs at once at a socket of libpcsclite's protocol.
PROGRAMS_MAX = 300

#: Seconds the hosts are given to see a change.
PATIENCE = 10


class PlainDaemon:
    """One reader for each path, reader N first in the list of paths is 0."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.peers.plain_daemon", *map(str, self._paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._read() == "ready"

    def ask(self, line: str) -> str:
        """Have it do something and return what it says."""
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()
        return self._read()

    def signal(self, number: int) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: nothing is cleaned up, its socket files stay. May be repeated."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def __enter__(self) -> PlainDaemon:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGCONT)
        self.kill()

    def _read(self) -> str:
        assert self._child is not None and self._child.stdout is not None
        return self._child.stdout.readline().strip()


async def _until(condition: Callable[[], bool]) -> str:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
    return "ok"


async def _obey(reader: Reader, verb: str) -> str:
    if verb == "insert":
        return str(reader.insert(PlainCard(ATR_T0, "01")))
    if verb == "insert-t1":
        return str(reader.insert(PlainCard(ATR_T1, "02")))
    if verb == "remove":
        return str(reader.remove())
    if verb == "exchange":
        reader.remove()
        return str(reader.insert(PlainCard(ATR_T1, "02")))
    if verb == "hosts":
        return " ".join(sorted(host.peer for host in reader.hosts))
    if verb == "attached":
        return await _until(lambda: bool(reader.hosts))
    if verb == "seen":
        return str(await reader.wait_seen(reader.generation, PATIENCE))
    card = reader.card
    assert isinstance(card, PlainCard)
    if verb == "working":
        return await _until(lambda: any(session.waiting for session in card.sessions))
    assert verb == "finish"
    card.finish()
    return "ok"


def _frontend(reader: Reader, path: Path) -> IfdFrontend | PtyFrontend:
    return (
        PtyFrontend(reader, path)
        if path.suffix == ".tty"
        else IfdFrontend(reader, path, serial=reader.name)
    )


def _show_to_programs(path: Path, readers: Sequence[Reader]) -> PcscServer:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1000)
    server = PcscServer(Registry(), lambda connected: True, most=PROGRAMS_MAX)
    for reader in readers:
        server.add(reader, reader.name, None)
    server.start(listener)
    return server


async def _serve(paths: list[Path]) -> None:
    doors = [path for path in paths if path.suffix == ".comm"]
    others = [path for path in paths if path not in doors]
    readers = [Reader(path.stem) for path in others]
    for reader, path in zip(readers, others, strict=True):
        await _frontend(reader, path).start()
    servers = [_show_to_programs(path, readers) for path in doors]
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := await lines.readline():
        verb, number = line.decode().split()
        if verb in ("hide", "show"):
            for server in servers:
                if verb == "hide":
                    server.remove(readers[int(number)])
                else:
                    server.add(readers[int(number)], "", None)
            print("ok", flush=True)
            continue
        print(await _obey(readers[int(number)], verb), flush=True)


def _main() -> None:
    with suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(_serve([Path(word) for word in sys.argv[1:]]))


if __name__ == "__main__":
    _main()
