# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine moves to another QEMU, and its usb-redir finds our device again by itself."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import Daemon
from tests.peers.pem import make_pem
from tests.vm.qmp import Qmp

PATIENCE = 20.0


@contextlib.contextmanager
def qemu(chardev: str, *more: str) -> Iterator[Qmp]:
    """A machine with nothing to boot: its controller and usb-redir are there all the same."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-M", "q35,usb=off"),
                *("-m", "16", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-chardev", f"socket,id=qmp,fd={theirs.fileno()}"),
                *("-mon", "chardev=qmp,mode=control", "-device", "qemu-xhci"),
                *("-chardev", f"socket,id=reader,{chardev}", "-device"),
                *("usb-redir,chardev=reader", *more),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
    try:
        monitor = Qmp(ours, PATIENCE)
        yield monitor
        monitor.close()
    finally:
        process.kill()
        process.wait()


def has_device(monitor: Qmp) -> bool:
    """Whether ours is plugged in: usb-redir without a device is a slower one."""
    told = monitor.execute("human-monitor-command", **{"command-line": "info usb"})
    return "Speed 12 Mb/s, Product USB Redirection Device" in told


@pytest.mark.parametrize("listen", [False, True], ids=["vccid dials", "QEMU dials"])
def test_the_device_moves_with_the_machine(listen: bool, tmp_path: Path) -> None:
    address, way = tmp_path / "address", f"unix:{tmp_path}/way"
    # An address that leads to one QEMU, then to the other; QEMU removes its own file at its end.
    first, second = (
        f"path={address},reconnect=1" if listen else f"path={tmp_path}/{name},server=on,wait=off"
        for name in ("first", "second")
    )
    with Daemon(tmp_path / "d") as daemon:
        daemon.ctl("insert", "--certs", make_pem(tmp_path / "card.pem"))
        if not listen:
            address.symlink_to("first")
        daemon.ctl("attach", "usbredir", *(["--listen"] if listen else []), address)
        with qemu(first) as here, qemu(second, "-incoming", way) as there:
            daemon.wait_for(lambda: has_device(here))
            here.execute("migrate", uri=way)
            daemon.wait_for(lambda: here.execute("query-migrate").get("status") == "completed")
            if not listen:
                address.unlink()
                address.symlink_to("second")
            here.execute("quit")
            daemon.wait_for(lambda: "2 times" in status(daemon))
            daemon.wait_for(lambda: has_device(there))


def status(daemon: Daemon) -> str:
    frontends = daemon.reader()["frontends"]
    return next(f["status"] for f in frontends if f["kind"] == "usbredir")
