# SPDX-License-Identifier: LGPL-2.1-or-later
"""An APDU through pcscd, and how soon an application hears of an insertion.

SELECT goes to our card and to a driver that answers 90 00 inside pcscd, in turns of the same
application on the same pcscd. Prints the figures as JSON (see tests.bench.__main__).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.peers.daemon import Daemon
from tests.peers.pem import make_pem
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER
from vccid.ctl.client import Client

HERE = Path(__file__).parent
OURS, FLOOR = "vccid vccid0 00 00", "floor 00 00"

#: Turns, and APDUs in each turn: a turn is long enough for the scheduler to settle.
ROUNDS, EACH = 60, 200
APDU_TARGET = 2.2

#: The priority systemd/vccid.service gives the daemon.
AS_THE_UNIT = ("nice", "--adjustment=-5")

INSERTIONS = 30
INSERT_TARGET_MS = 20


def build(source: str, program: Path, *options: str) -> Path:
    subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", "-I/usr/include/PCSC", "-O2",
         HERE / source, "-o", program, *options],
        check=True,
        timeout=60,
    )  # fmt: skip
    return program


def select_medians(pcscd: PrivatePcscd, client: Path) -> tuple[float, float]:
    """Median microseconds of a SELECT: our card's, the floor's."""
    done = subprocess.run(
        [client, str(ROUNDS), str(EACH), FLOOR, OURS],
        env=pcscd.env, check=True, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    floor, ours = (int(line) / 1000 for line in done.stdout.splitlines())
    return ours, floor


def insertions(pcscd: PrivatePcscd, client: Path, daemon: Daemon, pem: Path) -> list[float]:
    """Milliseconds from each request to the daemon until SCardGetStatusChange has returned."""
    times = []
    waiting = subprocess.Popen([client, OURS], env=pcscd.env, stdout=subprocess.PIPE, text=True)
    stream = waiting.stdout
    assert stream is not None

    def until(state: str) -> int:
        while (line := stream.readline().split())[0] != state:
            pass
        return int(line[1])

    try:
        with Client(daemon.control) as control:
            until("present")
            for _ in range(INSERTIONS):
                control.call("Remove")
                until("empty")
                begin = time.monotonic_ns()
                control.call("Insert", {"certificates": [str(pem)]})
                times.append((until("present") - begin) / 1e6)
    finally:
        waiting.kill()
        waiting.communicate()
    return times


@contextmanager
def host(
    directory: Path, floor_driver: Path, wrapper: Sequence[str]
) -> Iterator[tuple[Daemon, PrivatePcscd]]:
    """A daemon below `wrapper`, and a pcscd with its reader and the floor's."""
    daemon = Daemon(directory / "vccid")
    entries = [
        ReaderEntry("vccid vccid0", f"vccid:{daemon.ifd()}", DRIVER),
        ReaderEntry("floor", "floor:0", floor_driver),
    ]
    daemon.start(wrapper)
    try:
        with PrivatePcscd(directory / "pcscd", entries) as pcscd:
            yield daemon, pcscd
    finally:
        daemon.stop()


def select_figure(name: str, ours: float, floor: float) -> dict[str, object]:
    return {
        "name": f"an APDU (SELECT) through pcscd, median, {name}",
        "value": round(ours, 1),
        "unit": "µs",
        "floor": round(floor, 1),
        "ratio": round(ours / floor, 2),
    }


def measure(directory: Path) -> list[dict[str, object]]:
    apdu = build("apdu_client.c", directory / "apdu_client", "-lpcsclite")
    status = build("status_client.c", directory / "status_client", "-lpcsclite")
    floor_driver = build("floor_driver.c", directory / "floor.so", "-shared", "-fPIC")
    pem = make_pem(directory / "bench.pem")
    with host(directory / "unit", floor_driver, AS_THE_UNIT) as (daemon, pcscd):
        daemon.ctl("insert", "--certs", pem, "--wait")
        as_unit = select_medians(pcscd, apdu)
        insertion = statistics.median(insertions(pcscd, status, daemon, pem))
    with host(directory / "plain", floor_driver, ()) as (daemon, pcscd):
        daemon.ctl("insert", "--certs", pem, "--wait")
        plain = select_medians(pcscd, apdu)
    return [
        {**select_figure("at the unit's Nice=-5", *as_unit), "target": APDU_TARGET},
        select_figure("at no priority", *plain),
        {
            "name": "insert until SCardGetStatusChange returns, median",
            "value": round(insertion, 2),
            "unit": "ms",
            "target": INSERT_TARGET_MS,
        },
    ]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vccid-bench-") as name:
        print(json.dumps(measure(Path(name))))


if __name__ == "__main__":
    main()
