# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon and vccidctl as a user feels them: how soon ready, how large, how quick to answer."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.peers.daemon import BIN, Daemon, make_nss_database
from vccid.ctl.client import Client

STARTS: Final = 9
CALLS: Final = 15

CERTIFICATES: Final = ("cert1", "cert2", "cert3")


def figure(name: str, value: float, unit: str, target: float | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "target": target}


def median_ms(work: Callable[[], object], times: int) -> float:
    """How long `work` takes, in milliseconds."""

    def one() -> float:
        begin = time.perf_counter()
        work()
        return (time.perf_counter() - begin) * 1000

    return statistics.median(one() for _ in range(times))


def start_to_ready(directory: Path) -> float:
    """Milliseconds from exec to READY=1, of a daemon that has nothing in."""
    daemon = Daemon(directory)

    def once() -> float:
        begin = time.perf_counter()
        daemon.launch()
        daemon.wait_for_word("READY=1")
        taken = time.perf_counter() - begin
        daemon.stop()
        return taken * 1000

    return statistics.median(once() for _ in range(STARTS))


def resident_mb(daemon: Daemon) -> float:
    """Resident memory, megabytes; what is shared with other processes included."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024 / 1e6


def insert_and_remove(daemon: Daemon, database: str) -> float:
    """Milliseconds from the call until the card is in and noted on the disk."""
    request = {"certificates": list(CERTIFICATES), "database": database}
    with Client(daemon.control) as client:

        def once() -> float:
            begin = time.perf_counter()
            client.call("Insert", request)
            taken = time.perf_counter() - begin
            client.call("Remove")
            return taken * 1000

        once()  # the first also loads the modules
        return statistics.median(once() for _ in range(CALLS))


def at_narrow_terminal(daemon: Daemon, *arguments: str) -> None:
    """Run vccidctl at a terminal of 60 columns, too few for its table: rich folds it."""
    ours, its = pty.openpty()
    command = [BIN / "vccidctl", "--socket", daemon.control, *arguments]
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, "COLUMNS": "60"}
    ) as running:
        os.close(its)
        with contextlib.suppress(OSError):  # EIO: it has ended
            while os.read(ours, 65536):
                continue
    os.close(ours)
    assert running.returncode == 0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vccid-bench-") as name:
        directory = Path(name)
        database = make_nss_database(directory / "nss", CERTIFICATES)
        figures = [
            figure("daemon start to READY, median", start_to_ready(directory / "a"), "ms", 300)
        ]
        with Daemon(directory / "b") as daemon:
            inserted = insert_and_remove(daemon, database)
            figures.append(figure("insert over the control socket, median", inserted, "ms"))
        with Daemon(directory / "c") as daemon:
            daemon.ctl("insert", "--certs", ",".join(CERTIFICATES), "--db", database)
            status = median_ms(lambda: daemon.ctl("status"), CALLS)
            folded = median_ms(lambda: at_narrow_terminal(daemon, "status"), CALLS)
            figures += [
                figure("resident memory with one card", resident_mb(daemon), "MB", 40),
                figure("`vccidctl status`, whole process, median", status, "ms", 150),
                figure("`vccidctl status` at a terminal too narrow for it", folded, "ms"),
            ]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
