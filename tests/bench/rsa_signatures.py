# SPDX-License-Identifier: LGPL-2.1-or-later
"""RSA-2048 signatures a second through OpenSC, beside `openssl speed`: by pcscd, and without it.

One PKCS#11 session, file keys, all in turns; without pcscd also with program and daemon on the one
processor that `openssl speed` has too. Prints the figures as JSON (see
tests.bench.__main__).
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.pem import make_pem
from tests.peers.stage import Stage

#: Turns, and seconds of each.
TURNS, SECONDS = 5, 2
TARGET, TARGET_WITHOUT_PCSCD = 0.25, 0.45

#: Signs in a process of its own, since libpcsclite reads its environment only once.
CLIENT = """
import sys, time, PyKCS11
module, pin, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
library = PyKCS11.PyKCS11Lib()
library.load(module)
session = library.openSession(library.getSlotList(tokenPresent=True)[0])
session.login(pin)
key = session.findObjects([(PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY)])[0]
mechanism = PyKCS11.Mechanism(PyKCS11.CKM_SHA256_RSA_PKCS, None)
session.sign(key, b"first", mechanism)
count, start = 0, time.perf_counter()
while (spent := time.perf_counter() - start) < seconds:
    session.sign(key, b"a message worth signing", mechanism)
    count += 1
print(count / spent)
"""


def openssl_speed() -> float:
    """RSA-2048 private operations a second in one process."""
    command = ["openssl", "speed", "-mr", "-seconds", str(SECONDS), "rsa2048"]
    report = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    result = next(line for line in report.splitlines() if line.startswith("+F2:"))
    return float(result.split(":")[3])


def through_opensc(desk: Desk) -> float:
    """SHA256-RSA-PKCS signatures a second at a desk."""
    printed = desk.say(
        sys.executable, "-c", CLIENT, OPENSC_MODULE, PIN, str(SECONDS),
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    return float(printed.splitlines()[-1])


@contextlib.contextmanager
def on_one_processor(*pids: int) -> Iterator[None]:
    """Keep processes, us, and whom we start meanwhile to one, as `openssl speed` keeps itself."""
    before = os.sched_getaffinity(0)
    threads = [int(tid) for pid in pids for tid in os.listdir(f"/proc/{pid}/task")]
    try:
        for thread in (0, *threads):
            os.sched_setaffinity(thread, {max(before)})
        yield
    finally:
        for thread in (0, *threads):
            os.sched_setaffinity(thread, before)


class Turn(NamedTuple):
    """Signatures a second."""

    behind_pcscd: float
    without: float
    without_on_one: float
    openssl: float


def measure() -> Turn:
    """The medians."""
    with tempfile.TemporaryDirectory(prefix="vccid-bench-") as name, Stage(Path(name)) as stage:
        pem, pin = make_pem(Path(name) / "bench.pem"), Path(name) / "pin"
        pin.write_text(f"{PIN}\n")
        desk = stage.host()
        stage.daemon.ctl("attach", "pcsc")
        socket = stage.daemon.runtime / "pcscd.comm"
        door = Desk(Path(name) / "door", {**os.environ, "PCSCLITE_CSOCK_NAME": str(socket)})
        stage.daemon.ctl("insert", "--certs", pem, "--pin-file", pin, "--wait")

        def pinned() -> float:
            with on_one_processor(stage.daemon.pid):
                return through_opensc(door)

        turns = [
            Turn(through_opensc(desk), through_opensc(door), pinned(), openssl_speed())
            for _ in range(TURNS)
        ]
    return Turn(*map(statistics.median, zip(*turns, strict=True)))


def figure(way: str, rate: float, floor: float, target: float | None = None) -> dict[str, object]:
    return {
        "name": f"RSA-2048 signatures through OpenSC {way}, median",
        "value": round(rate),
        "unit": "signatures/s",
        "floor": round(floor),
        "ratio": round(rate / floor, 3),
        "target": target,
        "better": "higher",
    }


def main() -> None:
    turn = measure()
    own = "and libpcsclite's own protocol"
    figures = [
        figure("and pcscd", turn.behind_pcscd, turn.openssl, TARGET),
        figure(own, turn.without, turn.openssl, TARGET_WITHOUT_PCSCD),
        figure(f"{own}, on one processor", turn.without_on_one, turn.openssl, TARGET_WITHOUT_PCSCD),
    ]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
