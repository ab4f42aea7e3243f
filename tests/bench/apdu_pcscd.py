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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench._programs import AS_THE_UNIT, apdu_times, build, build_apdu_client
from tests.peers.daemon import Daemon, make_nss_database
from tests.peers.plain_daemon import PlainDaemon
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER
from vccid.ctl.client import Client

OURS, FLOOR = "vccid vccid0 00 00", "floor 00 00"

#: Of an NSS database, which is how the manual begins.
CERTS = ["cert1", "cert2", "cert3"]

#: Turns, and APDUs in each turn: a turn is long enough for the scheduler to settle.
ROUNDS, EACH = 60, 200
APDU_TARGET = 2.2

INSERTIONS = 30
INSERT_TARGET_MS = 20


def select_medians(pcscd: PrivatePcscd, client: Path) -> tuple[float, float]:
    """Median microseconds of a SELECT: our card's, the floor's."""
    done = subprocess.run(
        [client, str(ROUNDS), str(EACH), FLOOR, OURS],
        env=pcscd.env, check=True, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    floor, ours = (times.median * 1e6 for times in apdu_times(done.stdout))
    return ours, floor


def insertion_median(
    pcscd: PrivatePcscd, client: Path, insert: Callable[[], object], remove: Callable[[], object]
) -> float:
    """Median milliseconds from the call of `insert` until SCardGetStatusChange has returned."""
    times = []
    waiting = subprocess.Popen([client, OURS], env=pcscd.env, stdout=subprocess.PIPE, text=True)
    stream = waiting.stdout
    assert stream is not None

    def until(state: str) -> int:
        while (line := stream.readline().split())[0] != state:
            pass
        return int(line[1])

    try:
        until("empty")
        for _ in range(INSERTIONS):
            begin = time.monotonic_ns()
            insert()
            times.append((until("present") - begin) / 1e6)
            remove()
            until("empty")
    finally:
        waiting.kill()
        waiting.communicate()
    return statistics.median(times)


def insertion_by_request(daemon: Daemon, pcscd: PrivatePcscd, client: Path, database: str) -> float:
    """From a request to the daemon's control socket: keys are found, state is read."""
    wanted = {"certificates": CERTS, "database": database}
    with Client(daemon.control) as control:
        return insertion_median(
            pcscd, client, lambda: control.call("Insert", wanted), lambda: control.call("Remove")
        )


def insertion_alone(directory: Path, client: Path) -> float:
    """From a card that is ready: what the frontend, the driver and pcscd take."""
    directory.mkdir()
    path = directory / "vccid0.ifd"
    entry = ReaderEntry("vccid vccid0", f"vccid:{path}", DRIVER)
    with PlainDaemon([path]) as daemon, PrivatePcscd(directory / "pcscd", [entry]) as pcscd:
        daemon.ask("attached 0")
        return insertion_median(
            pcscd, client, lambda: daemon.ask("insert 0"), lambda: daemon.ask("remove 0")
        )


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


def insertion_figure(name: str, value: float) -> dict[str, object]:
    return {
        "name": f"{name} until SCardGetStatusChange returns, median",
        "value": round(value, 2),
        "unit": "ms",
        "target": INSERT_TARGET_MS,
    }


def measure(directory: Path) -> list[dict[str, object]]:
    apdu = build_apdu_client(directory)
    status = build("status_client.c", directory / "status_client", "-lpcsclite")
    floor_driver = build("floor_driver.c", directory / "floor.so", "-shared", "-fPIC")
    database = make_nss_database(directory / "nss")
    insert = ("insert", "--db", database, "--certs", ",".join(CERTS), "--wait")
    with host(directory / "unit", floor_driver, AS_THE_UNIT) as (daemon, pcscd):
        by_request = insertion_by_request(daemon, pcscd, status, database)
        daemon.ctl(*insert)
        as_unit = select_medians(pcscd, apdu)
    with host(directory / "plain", floor_driver, ()) as (daemon, pcscd):
        daemon.ctl(*insert)
        plain = select_medians(pcscd, apdu)
    return [
        {**select_figure("at the unit's Nice=-5", *as_unit), "target": APDU_TARGET},
        select_figure("at no priority", *plain),
        insertion_figure("request to insert from an NSS database", by_request),
        insertion_figure(
            "insert of a card that is ready", insertion_alone(directory / "i", status)
        ),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vccid-bench-") as name:
        print(json.dumps(measure(Path(name))))


if __name__ == "__main__":
    main()
