# SPDX-License-Identifier: LGPL-2.1-or-later
"""One guest with a reader on each route, all with cards of the same certificates.

QEMU's own reader with libcacard's card, and ours over VSC, usbredir, vhci and USB/IP. Two vccids
run: one in the guest, for vhci, and one here for the others. QEMU runs in pure emulation, so the
first is some fifteen times slower than it is; USB/IP has the same kernel's vhci_hcd and libccid,
and a vccid that is not emulated, as QEMU's own reader is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.bench._programs import AS_THE_UNIT, build_apdu_client
from tests.peers.daemon import Daemon
from tests.peers.libcacard import NICKNAMES, make_database
from tests.peers.vpcd import free_port
from tests.vm.guest import Guest, GuestOptions, until
from vccid.ctl.client import Client
from vccid.wire.varlink import INTERFACE

#: Runs one of the scripts there.
INSIDE: Final = "cd /src && exec python3 -m tests.bench.inside"
PIN: Final = "123456"

#: In the order in which the lab brings them up; the first is what the others are held beside.
PEER: Final = "QEMU"
OURS: Final = ("VSC", "usbredir", "vhci", "USB/IP")
ROUTES: Final = (PEER, *OURS)
#: What Python can do at best on vhci: a loop of recv, see tests.bench.inside.bare_reader.
FLOOR: Final = "vhci, a bare loop of Python in vccid's place"

#: Each reader on a controller of its own: QEMU's on those it keeps step on, usb-redir on the one
#: that takes a transfer as a whole (a UHCI cuts libccid's 65,556 bytes into 1,025 packets).
_CONTROLLERS: Final = {
    "peer": "piix3-usb-uhci",
    "vsc": "piix3-usb-uhci",
    "redir": "qemu-xhci",
}

_OPENSC: Final = """app default {{
    ignored_readers = {ignored};
    framework pkcs15 {{ use_file_caching = no; }}
}}
"""


def _devices(directory: Path) -> list[str]:
    words = []
    for name, controller in _CONTROLLERS.items():
        words += ["-device", f"{controller},id={name}"]
    certificates = ",".join(f"cert{n}={name}" for n, name in enumerate(NICKNAMES, start=1))
    database = f"db=sql:{directory}/db,{certificates}"
    return [
        *words,
        *("-device", "usb-ccid,id=ccid-peer,bus=peer.0"),
        *("-device", f"ccid-card-emulated,backend=certificates,bus=ccid-peer.0,{database}"),
        *("-chardev", f"socket,id=vsc-link,path={directory}/vsc,server=on,wait=off"),
        *("-device", "usb-ccid,id=ccid-vsc,bus=vsc.0"),
        *("-device", "ccid-card-passthru,chardev=vsc-link,bus=ccid-vsc.0"),
        *("-chardev", f"socket,id=redir-link,path={directory}/redir,server=on,wait=off"),
        *("-device", "usb-redir,chardev=redir-link,bus=redir.0"),
    ]


def full_share(pid: int) -> None:
    """Undo a test guest's niceness, where we may: what is measured here runs in it."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), niceness)


class Lab:
    """A context manager.

    Attributes:
        guest: its pcscd runs.
        daemon: the vccid of this host, with its card in.
        names: pcscd's name of each route's reader, once attached.
        listed: seconds from a route's attach until pcscd has the reader, or, where the reader
            is QEMU's and only the card is ours, the card.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names: dict[str, str] = {}
        self.listed: dict[str, float] = {}
        self._end = contextlib.ExitStack()

    def __enter__(self) -> Lab:
        try:
            self._set_up()
        except BaseException:
            self._end.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.close()

    def _set_up(self) -> None:
        database = make_database(self.directory / "db", PIN).directory
        options = GuestOptions(qemu=_devices(self.directory), network=True)
        self.guest = self._end.enter_context(Guest(options, self.directory / "guest"))
        full_share(self.guest.qemu_pid)
        self._port = free_port()
        settings = f"[usbip]\nport = {self._port}\n"
        daemon = Daemon(self.directory / "vccid", settings=settings)
        self.daemon = self._end.enter_context(daemon)
        insert = ("insert", "--certs", ",".join(NICKNAMES), "--password-file")
        self.daemon.ctl(*insert, database / "password", "--db", f"sql:{database}")
        guest = self.guest
        guest.push(database, "/tmp/db")
        guest.push(build_apdu_client(self.directory), "/tmp/apdu_client")
        vccid = " ".join((*AS_THE_UNIT, "vccid"))
        guest.run(f"modprobe vhci-hcd && (exec {vccid} >/tmp/vccid.log 2>&1 &)")
        guest.run(until("test -S /run/vccid/control"))
        guest.run(f"vccidctl {' '.join(insert)} /tmp/db/password --db sql:/tmp/db")
        guest.run(until("test $(lsusb | grep -c 08e6:4433) = 2"))
        guest.run("pcscd --foreground >/tmp/pcscd.log 2>&1 &")

    # --- attaching -----------------------------------------------------------------------

    def attach_all(self) -> None:
        """Attach each route; afterwards `names` and `listed` are filled."""
        (self.names[PEER],) = self._with_card(1)
        self._attach_peer()
        for route in OURS:
            self._attach(route)
            known = set(self.names.values())
            (self.names[route],) = self._with_card(len(known) + 1) - known

    def _attach(self, route: str) -> None:
        if route == "VSC":
            self.listed[route] = self._watched("cards", 2, self._attach_here("vsc", "vsc"))
        elif route == "usbredir":
            self.listed[route] = self._watched("listed", 3, self._attach_here("usbredir", "redir"))
        elif route == "USB/IP":
            self.daemon.ctl("attach", "usbip")
            self.listed[route] = self._watched("listed", 5, self._import)
        else:
            call = {"method": f"{INTERFACE}.Attach", "parameters": {"kind": "vhci"}}
            watch = f"{INSIDE}.watch listed 4 '{json.dumps(call)}'"
            self.listed[route] = float(self.guest.run(watch).text.splitlines()[2])

    def _attach_here(self, kind: str, path: str) -> Callable[[], object]:
        client = self._end.enter_context(Client(self.daemon.control))
        parameters = {"kind": kind, "address": f"{self.directory}/{path}"}
        return lambda: client.call("Attach", parameters)

    def _import(self) -> None:
        usbip = f"usbip --tcp-port {self._port}"
        self.guest.run(f"{usbip} attach -r 10.0.2.2 -b 1-1")

    def _attach_peer(self) -> None:
        """Plug in a second reader of QEMU's, empty, and pull it out again."""
        qmp = self.guest.qmp
        spare = {"driver": "usb-ccid", "id": "spare", "bus": "peer.0"}
        self.listed[PEER] = self._watched("listed", 3, lambda: qmp.execute("device_add", **spare))
        self._watched("listed", 2, lambda: qmp.execute("device_del", id="spare"))

    def _watched(self, what: str, count: int, change: Callable[[], object]) -> float:
        """Seconds from a change until pcscd has so many readers, or cards."""
        watch = self.guest.start(f"{INSIDE}.watch {what} {count}", timeout=30)
        watch.wait_for("armed")
        start = time.monotonic()
        change()
        watch.wait_for("seconds")
        return time.monotonic() - start

    def _with_card(self, count: int) -> set[str]:
        """pcscd's readers with a card, once there are so many."""
        said = self.guest.run(f"{INSIDE}.watch cards {count}", timeout=30).text
        return set(said.splitlines()[3:])

    @contextlib.contextmanager
    def floor(self) -> Iterator[str]:
        """pcscd's name of one more reader on vhci, the barest there can be, for as long as it is
        wanted.
        """
        others = set(self.names.values())
        bare = self.guest.start(f"exec {' '.join(AS_THE_UNIT)} sh -c '{INSIDE}.bare_reader'")
        try:
            bare.wait_for("attached")
            (name,) = self._with_card(len(others) + 1) - others
            yield name
        finally:
            bare.stop()
            self._watched("listed", len(others), lambda: None)

    # --- what is asked of the guest ------------------------------------------------------

    def opensc(self, route: str) -> str:
        """The environment in which OpenSC has this route's reader alone."""
        path = f"/tmp/opensc-{ROUTES.index(route)}.conf"
        others = ", ".join(f'"{name}"' for other, name in self.names.items() if other != route)
        self.guest.write(path, _OPENSC.format(ignored=others))
        return f"OPENSC_CONF={path}"

    def detach_ours(self) -> None:
        """Take our readers away again."""
        for kind in ("vsc", "usbredir"):
            path = self.directory / ("vsc" if kind == "vsc" else "redir")
            self.daemon.ctl("detach", kind, path)
        self.guest.run("usbip detach -p 1 && vccidctl detach vhci")
        self.guest.run(until("test $(opensc-tool -l | grep -c Yes) = 1"))

    def daemon_pid(self) -> int:
        """The process id of the vccid in the guest."""
        status = json.loads(self.guest.run("vccidctl status --json").text)
        return int(status["pid"])
