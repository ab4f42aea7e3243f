# SPDX-License-Identifier: LGPL-2.1-or-later
"""An APDU by libpcsclite's own protocol, beside pcscd with a driver that answers within it.

SELECT goes to our card by the daemon alone, and to pcscd whose driver answers 90 00 at once, in
turns of the same program. Prints the figures as JSON (see tests.bench.__main__).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.bench._programs import AS_THE_UNIT, Times, apdu_times, build, build_apdu_client
from tests.peers.daemon import Daemon, make_nss_database
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry

OURS, FLOOR = "vccid vccid0 00 00", "floor 00 00"
CERTS = "cert1,cert2,cert3"
SETTINGS = "[reader.vccid0]\nifd = false\npcsc = true\n"

TURNS, ROUNDS, EACH = 12, 5, 200
CONTEXTS = 1000


def run_client(client: Path, env: Mapping[str, str], reader: str) -> Times:
    done = subprocess.run(
        [client, str(ROUNDS), str(EACH), reader],
        env=env, check=True, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    return apdu_times(done.stdout)[0]


def select_times(daemon: Daemon, pcscd: PrivatePcscd, client: Path) -> tuple[Times, Times]:
    """Of our card, and of the floor: medians over the turns."""
    ours, floor = [], []
    for _ in range(TURNS):
        floor.append(run_client(client, pcscd.env, FLOOR))
        ours.append(run_client(client, programs_of(daemon), OURS))
    return middle(ours), middle(floor)


def middle(turns: list[Times]) -> Times:
    return Times(*(statistics.median(column) for column in zip(*turns, strict=True)))


def programs_of(daemon: Daemon) -> dict[str, str]:
    return {**os.environ, "PCSCLITE_CSOCK_NAME": str(daemon.runtime / "pcscd.comm")}


def memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def idle_contexts(daemon: Daemon) -> tuple[float, float]:
    """KiB of each of many contexts, and the processor's share that all of them take, in percent."""
    from tests.peers.pcsclite_client import RawClient

    path = daemon.runtime / "pcscd.comm"
    first = RawClient(path)
    first.establish()
    before = memory_kib(daemon.pid)
    clients = [RawClient(path) for _ in range(CONTEXTS)]
    for client in clients:
        client.establish()
        client.wait_for_change()
    each = (memory_kib(daemon.pid) - before) / CONTEXTS
    cpu, begin = cpu_seconds(daemon.pid), time.monotonic()
    time.sleep(3)
    share = (cpu_seconds(daemon.pid) - cpu) / (time.monotonic() - begin) * 100
    for client in (first, *clients):
        client.close()
    return each, share


def figure(name: str, unit: str, value: float, floor: float, target: float) -> dict[str, object]:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "floor": round(floor, 2),
        "ratio": round(value / floor, 2),
        "target": target,
    }


def measure(directory: Path) -> list[dict[str, object]]:
    client = build_apdu_client(directory)
    floor_driver = build("floor_driver.c", directory / "floor.so", "-shared", "-fPIC")
    database = make_nss_database(directory / "nss")
    daemon = Daemon(directory / "vccid", settings=SETTINGS)
    entry = ReaderEntry("floor", "floor:0", floor_driver)
    daemon.start(AS_THE_UNIT)
    try:
        daemon.ctl("insert", "--db", database, "--certs", CERTS)
        with PrivatePcscd(directory / "pcscd", [entry]) as pcscd:
            ours, floor = select_times(daemon, pcscd, client)
        kib, share = idle_contexts(daemon)
    finally:
        daemon.stop()
    what = "an APDU (SELECT) by libpcsclite's own protocol, beside pcscd's"
    return [
        figure(f"{what}, median", "µs", ours.median * 1e6, floor.median * 1e6, 1.0),
        figure(f"{what}, 99th percentile", "µs", ours.p99 * 1e6, floor.p99 * 1e6, 2.0),
        {"name": f"each of {CONTEXTS} idle contexts", "value": round(kib, 2), "unit": "KiB"},
        {"name": f"{CONTEXTS} idle contexts, processor", "value": round(share, 2), "unit": "%"},
    ]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vccid-bench-") as name:
        print(json.dumps(measure(Path(name))))


if __name__ == "__main__":
    main()
