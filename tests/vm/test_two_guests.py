# SPDX-License-Identifier: LGPL-2.1-or-later
"""One card, three hosts at once: this host's pcscd and two guests, by VSC and by usbredir."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.desk import PIN, Desk
from tests.peers.libcacard import make_database
from tests.peers.stage import Stage
from tests.vm.conftest import SLOW_HOST, MakeGuest
from tests.vm.guest import Guest, GuestOptions, until

#: VERIFY without data: 9000 where this session has proved the PIN, else 63Cx.
ASK = "opensc-tool -s 00A4040007A0000000790100 -s 00200000"
VERIFY = f"opensc-tool -s 00A4040007A0000000790100 -s 0020000006{PIN.encode().hex()} -s 00200000"
WRONG = "opensc-tool -s 00A4040007A0000000790100 -s 0020000006" + b"000000".hex()
CARD_IN = until("opensc-tool -l | grep '^0 *Yes'")
CARD_OUT = until("opensc-tool -l | grep '^0 *No'")
PCSCD = "pcscd --foreground >/dev/null 2>&1 &"


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="vccid-"))
    yield directory
    shutil.rmtree(directory)


DEVICES = {
    "vsc": ("-device", "usb-ccid", "-device", "ccid-card-passthru,chardev=link"),
    "usbredir": ("-device", "usb-redir,chardev=link"),
}


def boot(make_guest: MakeGuest, sockets: Path, name: str) -> Guest:
    """One of the two, on xHCI, with its pcscd up."""
    chardev = f"socket,id=link,path={sockets}/{name}.sock,server=on,wait=off"
    qemu = ["-device", "qemu-xhci", "-chardev", chardev, *DEVICES[name]]
    guest = make_guest(GuestOptions(name=name, qemu=qemu, memory=512))
    guest.run(PCSCD)
    return guest


@pytest.fixture(scope="module")
def guests(make_guest: MakeGuest, sockets: Path) -> list[Guest]:
    """One with ccid-card-passthru, one with usb-redir."""
    return [boot(make_guest, sockets, name) for name in DEVICES]


@pytest.fixture(autouse=True)
def quiet_kernels(guests: list[Guest]) -> Iterator[None]:
    """As `quiet_kernel`, of each that is still the same machine."""
    marks = {guest: guest.mark_kernel_log() for guest in guests}
    yield
    for guest in marks.keys() & set(guests):
        assert guest.kernel_warnings(marks[guest], [SLOW_HOST]) == []


@pytest.fixture(scope="module")
def stage(sockets: Path, guests: list[Guest]) -> Iterator[Stage]:
    database = make_database(sockets / "nss", PIN)
    with Stage(sockets / "s") as stage:
        stage.daemon.ctl("attach", "vsc", sockets / "vsc.sock")
        stage.daemon.ctl("attach", "usbredir", sockets / "usbredir.sock")
        stage.daemon.ctl(*insertion(sockets))
        assert database.directory.is_dir()
        yield stage


def insertion(sockets: Path) -> tuple[str, ...]:
    return "insert", "--db", f"sql:{sockets}/nss", "--certs", "cert1,cert2,cert3", "--wait"


@pytest.fixture(scope="module")
def desk(stage: Stage) -> Desk:
    return stage.host()


def test_opensc_uses_the_card_in_every_host(stage: Stage, desk: Desk, guests: list[Guest]) -> None:
    for guest in guests:
        guest.run(CARD_IN)
        assert "No errors" in guest.run(f"pkcs11-tool --test --login --pin {PIN} 2>&1").text
    assert "No errors" in desk.pkcs11("--test")


@pytest.mark.parametrize("prover", [0, 1])
def test_a_pin_proved_in_one_is_proved_nowhere_else(
    stage: Stage, desk: Desk, guests: list[Guest], prover: int
) -> None:
    # Both guests' cards anew, so that nothing is left of an earlier login.
    stage.daemon.ctl("remove", "--wait")
    for guest in guests:
        guest.run(CARD_OUT)
    stage.daemon.ctl(*insertion(stage.directory.parent))
    for guest in guests:
        guest.run(CARD_IN)
    assert "SW1=0x90, SW2=0x00" in guests[prover].run(VERIFY).text.splitlines()[-1]
    assert "SW1=0x63" in guests[1 - prover].run(ASK).text
    assert "SW1=0x63" in desk.say(*ASK.split())
    # What lasts is shared at once: a try spent in a guest is spent on the host.
    assert "SW2=0xC2" in guests[1 - prover].run(WRONG).text
    assert "SW2=0xC2" in desk.say(*ASK.split())
    assert "SW1=0x90" in guests[1 - prover].run(VERIFY).text.splitlines()[-1]


def test_a_killed_daemon_brings_all_back(stage: Stage, desk: Desk, guests: list[Guest]) -> None:
    stage.daemon.kill()
    stage.daemon.start()
    for guest in guests:
        guest.run(until(f"{ASK} | grep SW1=0x63"))
    desk.say("sh", "-c", until(f"{ASK} | grep SW1=0x63"))
    assert {f["kind"]: f["up"] for f in stage.daemon.reader()["frontends"]} == {
        "ifd": True,
        "usbredir": True,
        "vsc": True,
    }


def test_a_killed_qemu_and_a_rebooted_guest_come_back(
    stage: Stage, desk: Desk, guests: list[Guest], make_guest: MakeGuest, sockets: Path
) -> None:
    guests[0].close()
    guests[0] = boot(make_guest, sockets, "vsc")
    guests[1].reset()
    guests[1].run(PCSCD)
    for guest in guests:
        guest.run(until(f"{ASK} | grep SW1=0x63"))
    assert "SW1=0x63" in desk.say(*ASK.split())
    assert {f["kind"]: f["up"] for f in stage.daemon.reader()["frontends"]} == {
        "ifd": True,
        "usbredir": True,
        "vsc": True,
    }


def test_out_and_detached(stage: Stage, guests: list[Guest], sockets: Path) -> None:
    stage.daemon.ctl("remove", "--wait")
    for guest in guests:
        guest.run(CARD_OUT)
    stage.daemon.ctl("detach", "usbredir", sockets / "usbredir.sock")
    guests[1].run(until("! lsusb -d 0e0f:0004"))
