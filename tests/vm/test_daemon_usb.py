# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real daemon and vccidctl with the USB routes, under a real kernel, pcscd and libccid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.peers.libcacard import make_database

from .guest import Guest, until

PIN = "123456"
MODULE = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
#: As in test_vhci.
KERNEL_NOISE = (
    "vhci_device speed not set",
    "hrtimer: interrupt took",
    "enqueue for inactive port",
)
CARD = "--certs cert1,cert2,cert3 --db sql:/etc/pki/nssdb"
USB = "lsusb -d 0e0f:0004 >/dev/null"
SIGN = f"pkcs11-tool --module {MODULE} --login --sign --mechanism SHA256-RSA-PKCS --id 0001"
SIGN += " --input-file /etc/hostname --output-file /tmp/signature"
SETTINGS = """[reader.vccid0]
ifd = false
[reader.second]
ifd = false
"""


def cards(count: int) -> str:
    """A command that waits until pcscd has so many USB readers with a card."""
    return until(f"test $(opensc-tool -l | grep -c '^[0-9]* *Yes.*VMware') = {count}")


@pytest.fixture(scope="module", autouse=True)
def machine(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """pcscd, and a daemon of readers that only USB hosts see."""
    database = make_database(tmp_path_factory.mktemp("nss") / "db", PIN)
    guest.push(database.directory, "/etc/pki/nssdb")
    guest.write("/etc/vccid/vccid.toml", SETTINGS)
    guest.run("modprobe vhci-hcd; pcscd --foreground >/tmp/pcscd.log 2>&1 &")
    start(guest)


def start(guest: Guest) -> None:
    guest.run("vccid >>/tmp/vccid.log 2>&1 & echo $! >/tmp/vccid.pid")
    guest.run(until("vccidctl status >/dev/null 2>&1"))


def kill(guest: Guest) -> None:
    guest.run("kill -9 $(cat /tmp/vccid.pid)")


@pytest.fixture(autouse=True)
def clean(guest: Guest, quiet_kernel: None) -> Iterator[None]:
    """Afterwards every reader is empty and attached to nothing."""
    yield
    for name, reader in readers(guest).items():
        for frontend in reader["frontends"]:
            guest.run(f"vccidctl detach {frontend['kind']} --reader {name}")
        if reader["card"] or reader["real_card"]:
            guest.run(f"vccidctl remove {name}")
    guest.run(until(f"! {USB}") + " && " + until("! opensc-tool -l | grep -q VMware"))


def readers(guest: Guest) -> dict[str, dict[str, Any]]:
    listed = json.loads(guest.run("vccidctl reader list --json").text)["readers"]
    return {reader["name"]: reader for reader in listed}


def test_what_status_tells_of_a_reader_in_use(guest: Guest) -> None:
    guest.run(f"vccidctl insert vccid0 {CARD} && vccidctl attach vhci --reader vccid0")
    guest.run(cards(1))
    guest.run(f"{SIGN} --pin {PIN}")
    reader = readers(guest)["vccid0"]
    (frontend,) = reader["frontends"]
    assert (frontend["kind"], frontend["up"]) == ("vhci", True)
    assert frontend["status"] == "port 0 of vhci_hcd"
    (host,) = reader["hosts"]
    assert (host["kind"], host["peer"], host["seen"]) == ("vhci", "port 0", True)
    assert host["commands"] > 10
    assert f"vhci port 0: {host['commands']} APDUs" in guest.run("vccidctl status").text


def test_its_own_usb_reader_is_no_real_card(guest: Guest) -> None:
    guest.run(f"vccidctl insert vccid0 {CARD} && vccidctl attach vhci --reader vccid0")
    guest.run(cards(1))
    listed = guest.run("opensc-tool -l").text.splitlines()[-1]
    name = listed[listed.index("VMware") :].strip()
    refused = guest.run(f"vccidctl insert second --reader '{name}'", check=False)
    assert f"{name} is a reader of this daemon" in refused.errors
    refused = guest.run("vccidctl insert second --hardware", check=False)
    assert "none but vccid's own" in refused.errors


def test_the_kernel_lets_go(guest: Guest) -> None:
    guest.run("vccidctl attach vhci --reader vccid0 && " + until(USB))
    guest.run("usbip detach -p 0")
    guest.run(until("vccidctl status 2>&1 | grep -q 'vccid0 is not attached to vhci: .*let go'"))
    assert readers(guest)["vccid0"]["hosts"] == []
    kill(guest)
    start(guest)
    assert readers(guest)["vccid0"]["frontends"] == []
    guest.run("vccidctl attach vhci --reader vccid0 && " + until(USB))
