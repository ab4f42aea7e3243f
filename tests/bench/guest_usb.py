# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest's pcscd and OpenSC on our four routes, beside QEMU's own reader and libcacard.

One guest, one run, the same certificates, each on the controller that suits it; QEMU in pure
emulation, so everything within the guest takes ten times its time, and that includes vhci's
vccid. Prints the figures as JSON (see tests.bench.__main__).
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.bench._lab import FLOOR, INSIDE, OURS, PEER, PIN, ROUTES, Lab
from tests.bench._programs import apdu_times
from tests.unit.fakes import FakeCard
from tests.vm.guest import until
from tests.vm.usb_stage import read_binary
from vccid.frontends.usb.usb_host import UsbReader
from vccid.frontends.usb.usbredir import UsbRedirFrontend
from vccid.iso7816.atr import T1_ATR
from vccid.links.transport import Endpoint, parse_address
from vccid.reader import Reader
from vccid.usb.descriptors import Identity

Rows = list[dict[str, object]]

APDU_ROUNDS, APDUS_A_ROUND = 40, 20
SIGNATURES = 5
DUMPS = 3
LONG_BYTES, LONG_ROUNDS = (32768, 65536), 3
#: Seconds after which pcscd powers an idle card off, and over which a daemon's idleness counts.
POWER_OFF_AFTER, IDLE_SECONDS = 8, 20
IDLE_TARGET = 0.1

#: Nanoseconds on a CPU of all of a process' threads.
CPU_NS = "cat /proc/{}/task/*/schedstat | awk '{{ sum += $1 }} END {{ printf \"%.0f\", sum }}'"


def compared(what: str, seconds: dict[str, float]) -> Rows:
    """A row for each route but QEMU's own, in milliseconds, beside that."""
    floor = seconds[PEER]
    rows: Rows = [
        {
            "name": f"guest, {what}: {route}; beside: QEMU's reader with libcacard",
            "value": round(each * 1000, 2),
            "unit": "ms",
            "floor": round(floor * 1000, 2),
            "ratio": round(each / floor, 3),
            "target": 1.0 if route in OURS else None,
        }
        for route, each in seconds.items()
        if route != PEER
    ]
    return rows


def apdus(lab: Lab) -> Rows:
    """QEMU's reader spends part of its time waiting for the next frame of its UHCI; ours work all
    the time, and suffer more from what else uses the machine. Hence the quickest round, too.
    """
    with lab.floor() as bare:
        names = lab.names | {FLOOR: bare}
        readers = " ".join(f"'{name}'" for name in names.values())
        said = lab.guest.run(f"/tmp/apdu_client {APDU_ROUNDS} {APDUS_A_ROUND} {readers}").text
    times = dict(zip(names, apdu_times(said), strict=True))
    what = "APDU (SELECT) through pcscd, median"
    quickest = {route: each.quickest for route, each in times.items()}
    return [
        *compared(what, {route: each.median for route, each in times.items()}),
        *compared(f"{what} of the quickest round", quickest),
    ]


def signatures(lab: Lab) -> Rows:
    sign = f"{INSIDE}.opensc_sign {PIN} {SIGNATURES}"
    times = {
        route: float(lab.guest.run(f"export {lab.opensc(route)}; {sign}").text) for route in ROUTES
    }
    rows = compared("RSA-2048 signature through OpenSC, median", times)
    speed = lab.guest.run("openssl speed -mr -seconds 1 rsa2048 2>/dev/null").text
    found = re.search(r"^\+F2:\d+:2048:([0-9.]+)", speed, re.MULTILINE)
    assert found is not None, speed
    rows.append(
        {
            "name": "guest, RSA-2048 private operation by OpenSSL alone, which vhci's vccid pays",
            "value": round(_seconds_of_each(found[1]) * 1000, 2),
            "unit": "ms",
        }
    )
    return rows


def _seconds_of_each(speed: str) -> float:
    return 1 / float(speed) if float(speed) > 1 else float(speed)


def dumps(lab: Lab) -> Rows:
    times: dict[str, list[float]] = {route: [] for route in ROUTES}
    for _ in range(DUMPS):
        for route in ROUTES:
            clock = "date +%s.%N"
            dump = f"{lab.opensc(route)} pkcs15-tool --dump >/tmp/dump"
            said = lab.guest.run(f"{clock}; {dump}; {clock}; grep -c 'X.509 Cert' /tmp/dump").text
            begin, end, count = said.split()
            assert count == "3", (route, count)
            times[route].append(float(end) - float(begin))
    medians = {route: median(each) for route, each in times.items()}
    return compared("pkcs15-tool --dump, median", medians)


def idleness(lab: Lab) -> Rows:
    """Per cent of a CPU, with readers attached that nobody uses."""
    command = CPU_NS.format(lab.daemon_pid())
    tasks = Path(f"/proc/{lab.daemon.pid}/task")

    def spent() -> tuple[int, int]:
        here = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())
        return here, int(lab.guest.run(command).text)

    time.sleep(POWER_OFF_AFTER)
    before, start = spent(), time.monotonic()
    assert all(before), "the kernel does not count"
    time.sleep(IDLE_SECONDS)
    after, seconds = spent(), time.monotonic() - start
    shares = [(b - a) / seconds / 1e7 for a, b in zip(before, after, strict=True)]
    names = ("VSC, usbredir and USB/IP", "vhci, in the guest")
    return [
        {
            "name": f"CPU of a daemon with idle readers on {name}",
            "value": round(share, 4),
            "unit": "%",
            "target": IDLE_TARGET,
        }
        for name, share in zip(names, shares, strict=True)
    ]


def long_answers(lab: Lab) -> Rows:
    """QEMU's reader carries none of these."""
    lab.detach_ours()
    guest = lab.guest

    def measured(reader: str) -> dict[int, float]:
        guest.run(until(f"opensc-tool -l | grep -q 'Yes.*{reader}'"))
        listed = guest.run("opensc-tool -l").text
        name = next(line.split("  ")[-1].strip() for line in listed.splitlines() if reader in line)
        read = f"{INSIDE}.long_answer"
        return {
            size: float(guest.run(f"{read} {size} {LONG_ROUNDS} '{name}'").text)
            for size in LONG_BYTES
        }

    async def over_usbredir() -> dict[int, float]:
        reader = Reader("long")
        reader.insert(FakeCard(read_binary, T1_ATR))
        usb = UsbReader("long", (reader,), Identity("5E41A1", "longredir"))
        place = Endpoint(parse_address(f"{lab.directory}/redir"))
        frontend = UsbRedirFrontend(usb, place)
        await frontend.start()
        try:
            return await asyncio.to_thread(measured, "longredir")
        finally:
            await frontend.stop()

    times = {"usbredir": asyncio.run(over_usbredir())}
    guest.run("cd /src && exec python3 -m tests.vm.usb_stage >/tmp/stage.log 2>&1 &")
    guest.run(until("grep -q ready /tmp/stage.log"))
    for request in ("insert zero long", "attach zero"):
        guest.run(f"echo {request} | socat -t 30 - UNIX-CONNECT:/tmp/stage | grep -q ^ok")
    times["vhci"] = measured("zero")
    return [
        {
            "name": f"guest, an answer of {size // 1024} KiB, median: {route}",
            "value": round(seconds * 1000, 2),
            "unit": "ms",
        }
        for route, each in times.items()
        for size, seconds in each.items()
    ]


def listings(lab: Lab) -> Rows:
    """The peer is an empty reader of QEMU's, plugged in by device_add."""
    lab.attach_all()
    return compared("attach until pcscd lists the reader (VSC: until it has the card)", lab.listed)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vccid-") as name, Lab(Path(name)) as lab:
        rows: Rows = []
        for part in (listings, apdus, signatures, dumps, idleness, long_answers):
            start = time.monotonic()
            found = part(lab)
            values = ", ".join(f"{row['value']} {row['unit']}" for row in found)
            print(f"{part.__name__}, {time.monotonic() - start:.0f} s: {values}", file=sys.stderr)
            rows += found
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
