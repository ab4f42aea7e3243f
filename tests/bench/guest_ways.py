# SPDX-License-Identifier: LGPL-2.1-or-later
"""One APDU on each way from a program to the card, in one guest and one run.

The device node has no pcscd between; the others are pcscd with our driver, and with libccid on
vhci. The guest is QEMU in pure emulation, where all takes ten times its time, so what counts is
how the ways compare. Prints the figures as JSON (see tests.bench.__main__).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench._lab import NICKNAMES, PIN, full_share
from tests.bench._programs import AS_THE_UNIT, apdu_times, build_apdu_client
from tests.peers.libcacard import make_database
from tests.vm.guest import Guest, GuestOptions, until

ROUNDS, APDUS_A_ROUND = 20, 20
ENTRY = """FRIENDLYNAME "{name}"
DEVICENAME   {device}
LIBPATH      {driver}
"""
DRIVER = "/src/build/libifdvccid.so"
TWIN = "/usr/lib/pcsc/drivers/serial/libccidtwin.so"


@dataclass(frozen=True)
class Way:
    """A reader of vccid's with a card of its own, and how a program comes to it.

    Attributes:
        name: of the reader, in vccid.
        kind: what it is attached to; "" for pcscd's driver.
        device, driver: of pcscd's reader.conf, where it has a record there.
        shown: a device node's path, else a word in pcscd's name of the reader.
    """

    title: str
    name: str
    kind: str
    shown: str
    device: str = ""
    driver: str = ""


#: The first is what the others are held beside.
WAYS = (
    Way("pcscd, our driver", "ours", "", "ours", "vccid:/run/vccid/ours.ifd", DRIVER),
    Way("the device node", "node", "cuse", "/dev/vccid/node"),
    Way("pcscd, libccid, vhci", "usb", "vhci", "usb"),
    Way("pcscd, libccidtwin, PTY", "twin", "pty", "twin", "/run/vccid/twin.tty", TWIN),
    Way("pcscd, libccidtwin, CUSE tty", "line", "tty", "line", "/dev/ttyVCCID0", TWIN),
)


def start(guest: Guest, directory: Path) -> None:
    """The daemon, its readers with their cards, and pcscd."""
    database = make_database(directory / "db", PIN).directory
    guest.push(database, "/tmp/db")
    guest.write(
        "/etc/vccid/vccid.toml",
        "[reader.vccid0]\nenabled = false\n"
        + "".join(f"[reader.{way.name}]\nifd = {str(not way.kind).lower()}\n" for way in WAYS),
    )
    vccid = " ".join((*AS_THE_UNIT, "vccid"))
    guest.run(f"modprobe -a vhci-hcd cuse && (exec {vccid} >/tmp/vccid.log 2>&1 &)")
    guest.run(until("test -S /run/vccid/control"))
    insert = f"--certs {','.join(NICKNAMES)} --db sql:/tmp/db --password-file /tmp/db/password"
    for way in WAYS:
        guest.run(f"vccidctl insert {way.name} {insert}")
        if way.kind:
            guest.run(f"vccidctl attach {way.kind} --reader {way.name}")
    entries = [
        ENTRY.format(name=way.name, device=way.device, driver=way.driver)
        for way in WAYS
        if way.device
    ]
    guest.write("/etc/reader.conf.d/ways", "\n".join(entries))
    guest.run("pcscd --foreground >/tmp/pcscd.log 2>&1 &")


def places(guest: Guest) -> Sequence[str]:
    """For each way, what apdu_client takes."""
    names = []
    for way in WAYS:
        if way.shown.startswith("/"):
            names.append(way.shown)
            continue
        guest.run(until(f"opensc-tool -l | grep -q 'Yes.*{way.shown}'"))
        listed = guest.run("opensc-tool -l").text.splitlines()
        names += [line.split("  ")[-1].strip() for line in listed if way.shown in line]
    return names


def measured(guest: Guest, directory: Path) -> list[float]:
    """Microseconds of an APDU, a median for each way."""
    guest.push(build_apdu_client(directory), "/tmp/apdu_client")
    readers = " ".join(f"'{place}'" for place in places(guest))
    said = guest.run(f"/tmp/apdu_client {ROUNDS} {APDUS_A_ROUND} {readers}", timeout=120).text
    return [times.median * 1e6 for times in apdu_times(said)]


def figures(medians: Sequence[float]) -> list[dict[str, object]]:
    """A row for each way but the first, beside it."""
    floor = medians[0]
    return [
        {
            "name": f"guest, APDU (SELECT), median: {way.title}; beside: {WAYS[0].title}",
            "value": round(micros),
            "unit": "µs",
            "floor": round(floor),
            "ratio": round(micros / floor, 2),
        }
        for way, micros in zip(WAYS[1:], medians[1:], strict=True)
    ]


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="vccid-") as name,
        Guest(GuestOptions(), Path(name) / "guest") as guest,
    ):
        full_share(guest.qemu_pid)
        start(guest, Path(name))
        print(json.dumps(figures(measured(guest, Path(name))), indent=2))


if __name__ == "__main__":
    main()
