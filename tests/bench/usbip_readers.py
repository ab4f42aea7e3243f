# SPDX-License-Identifier: LGPL-2.1-or-later
"""200 readers in one vccid, each imported over USB/IP by a client of one other process.

Prints the figures as JSON (see tests.bench.__main__).
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench._importer import Importer
from tests.peers.daemon import Daemon
from tests.peers.pem import make_pem
from vccid.ctl.client import Client
from vccid.frontends.ccid_host import COMES_WITHIN

READERS: Final = 200
SECONDS: Final = 5.0
IDLE_SECONDS: Final = 5.0
SELECT: Final = bytes.fromhex("00 A4 04 00 07 A0 00 00 00 79 03 00")

SETTINGS = """[usbip]
port = {port}
connections = {connections}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resident_kib(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def cpu_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def export(client: Client, name: str, certificate: Path) -> None:
    """Add a reader with a card and show it to USB/IP."""
    client.call("AddReader", {"name": name})
    client.call("Insert", {"reader": name, "certificates": [str(certificate)]})
    client.call("Attach", {"reader": name, "kind": "usbip"})


async def bring_in(port: int, number: int) -> Importer:
    loop = asyncio.get_running_loop()
    _, importer = await loop.create_connection(lambda: Importer(f"1-{number}"), "127.0.0.1", port)
    await importer.begin()
    await select(importer)
    return importer


async def select(importer: Importer) -> float:
    """Seconds of one SELECT."""
    start = time.perf_counter()
    answer = await importer.transmit(SELECT)
    assert answer[-2] in (0x61, 0x90), answer.hex()
    return time.perf_counter() - start


async def hammer(importers: list[Importer]) -> int:
    """APDUs in `SECONDS` seconds in sum, each reader one at a time."""
    deadline = time.perf_counter() + SECONDS

    async def one(importer: Importer) -> int:
        count = 0
        while time.perf_counter() < deadline:
            await select(importer)
            count += 1
        return count

    counts = await asyncio.gather(*(one(importer) for importer in importers))
    assert min(counts) > 0, "a reader starved"
    return sum(counts)


async def measure(daemon: Daemon, port: int, certificate: Path) -> list[dict[str, object]]:
    with Client(daemon.control) as client:
        # The first brings in what all of them need.
        export(client, "bench1", certificate)
        importers = [await bring_in(port, 1)]
        before = resident_kib(daemon.pid)
        for number in range(2, READERS + 1):
            export(client, f"bench{number}", certificate)
            importers.append(await bring_in(port, number))
        memory = (resident_kib(daemon.pid) - before) / (READERS - 1)
    alone = median([await select(importers[0]) for _ in range(1000)])
    spent = cpu_seconds(daemon.pid)
    count = await hammer(importers)
    each = (cpu_seconds(daemon.pid) - spent) / count
    # Until then the daemon looks whether those who have just come look at their cards.
    await asyncio.sleep(COMES_WITHIN)
    spent = cpu_seconds(daemon.pid)
    await asyncio.sleep(IDLE_SECONDS)
    idle = (cpu_seconds(daemon.pid) - spent) / IDLE_SECONDS * 100
    for importer in importers:
        importer.close()
    of = f"{READERS} readers imported over USB/IP"
    return [
        {"name": f"memory of each of {of}", "value": round(memory, 1), "unit": "KiB"},
        {
            "name": f"APDUs (SELECT) in sum, {of} by one process",
            "value": round(count / SECONDS),
            "unit": "APDU/s",
            "better": "higher",
        },
        {
            "name": f"CPU of the daemon for each APDU, {of}",
            "value": round(each * 1e6),
            "unit": "µs",
        },
        {"name": "APDU over USB/IP to one of them", "value": round(alone * 1e6), "unit": "µs"},
        {"name": f"CPU of a daemon with {of}, idle", "value": round(idle, 3), "unit": "%",
         "target": 0.1},
    ]  # fmt: skip


def main() -> None:
    port = free_port()
    settings = SETTINGS.format(port=port, connections=READERS + 10)
    with tempfile.TemporaryDirectory(prefix="vccid-") as name:
        certificate = make_pem(Path(name) / "card.pem")
        with Daemon(Path(name) / "vccid", settings=settings) as daemon:
            print(json.dumps(asyncio.run(measure(daemon, port, certificate)), indent=2))


if __name__ == "__main__":
    main()
