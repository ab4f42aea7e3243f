# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's pcscd on serial readers: two terminals of the kernel's and one pseudo-terminal.

vccid runs as its service is installed. Nothing of ours is on pcscd's side but lines of reader.conf.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cards import PIN
from tests.conversations.doors import TTY
from tests.peers.desk import PIN as PIV_PIN
from tests.peers.libcacard import make_database

from .conftest import MakeGuest
from .conversations import Record, converse, converse_with_piv, give_piv
from .guest import Guest, GuestOptions, until
from .installation import SHARE_DATABASE, install

TWIN = "/usr/lib/pcsc/drivers/serial/libccidtwin.so"
#: DEVICENAME of pcscd's readers 0, 1 and 2.
DEVICES = ("/dev/ttyVCCID0", "/dev/ttyVCCID1", "/run/vccid/vccid0.tty")
CARD = "--certs cert1,cert2,cert3 --password-file /root/password"
INSERT = f"vccidctl insert vccid0 {CARD} --atr cac && vccidctl insert second {CARD} --atr t1"
#: What the kernel says of a name that is there already.
KERNEL_NOISE = ("cuse: .*already",)
OUR_DRIVER = "/usr/lib/pcsc/drivers/serial/libifdvccid.so /etc/reader.conf.d/vccid"


def all_see(presence: str) -> str:
    """Waits until pcscd says so of each reader."""
    readers = (
        f"opensc-tool --list-readers | grep -q ' {presence} .*twin{number}'"
        for number in range(len(DEVICES))
    )
    return " && ".join(map(until, readers))


def start_pcscd(guest: Guest) -> None:
    """Until it has the readers: libccid gives one 100 ms as it opens it, and never tries again."""
    listed = f"opensc-tool --list-readers | grep -c ' Yes ' | grep -qx {len(DEVICES)}"
    again = f"systemctl restart pcscd.service; for n in 1 2 3 4 5; do {listed} && exit; done"
    guest.run(f"for try in 1 2 3 4 5 6; do {again}; done; exit 1", timeout=110)


@pytest.fixture(scope="module")
def guest(make_guest: MakeGuest, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A machine with vccid installed, a T=0 card in one reader and a T=1 card in another."""
    guest = make_guest(GuestOptions(systemd=True))
    database = make_database(tmp_path_factory.mktemp("nss") / "db", PIN.decode())
    guest.push(database.directory, "/etc/pki/nssdb")
    guest.write("/root/password", PIN + b"\n", mode=0o600)
    install(guest)
    guest.run(f"{SHARE_DATABASE}rm {OUR_DRIVER}\n")
    entries = [
        f'FRIENDLYNAME "twin{number}"\nDEVICENAME {device}\nLIBPATH {TWIN}\n'
        for number, device in enumerate(DEVICES)
    ]
    guest.write("/etc/reader.conf.d/twin", "\n".join(entries))
    # As it is after a start of the machine: udev has seen the rule and the daemon's user.
    guest.run("systemctl restart systemd-udevd && systemctl start vccid.socket")
    guest.run("vccidctl reader add second")
    for attach in ("tty", "tty --reader second", "pty"):
        guest.run(f"vccidctl attach {attach}")
    guest.run(INSERT)
    start_pcscd(guest)
    return guest


def test_names_and_rights(guest: Guest, quiet_kernel: None) -> None:
    assert guest.run("stat -c '%U %G %a' /dev/ttyVCCID0").text == "root vccid 660\n"
    assert guest.run("stat -L -c '%U %G %a' /run/vccid/vccid0.tty").text == "vccid vccid 660\n"
    pid = guest.run("systemctl show -P MainPID vccid").text.strip()
    assert "CapEff:\t0000000000000000" in guest.run(f"cat /proc/{pid}/status").text
    status = guest.run("vccidctl status").text
    for device in DEVICES:
        assert f"{device}, open, opened" in status


@pytest.mark.parametrize("slot", range(len(DEVICES)), ids=["tty T=0", "tty T=1", "pty T=0"])
def test_opensc_tests_the_card(guest: Guest, quiet_kernel: None, slot: int) -> None:
    command = f"pkcs11-tool --slot-index {slot} --test --login --pin {PIN.decode()}"
    assert guest.run(command, timeout=100).text.splitlines()[-1] == "No errors"


def test_every_conversation(
    guest: Guest, quiet_kernel: None, tmp_path: Path, record_property: Record
) -> None:
    insert = f"vccidctl insert second {CARD} --atr t1"
    hands = ("vccidctl remove second", insert)
    converse(guest, TTY, PIN.decode(), record_property, *hands, reader="twin1")
    guest.run(f"{hands[0]} --wait && vccidctl insert second {give_piv(guest, tmp_path)} --wait")
    converse_with_piv(guest, TTY, PIV_PIN, record_property, reader="twin1")
    guest.run(f"{hands[0]} --wait && {insert} --wait")


def test_t1_over_the_pseudo_terminal(guest: Guest, quiet_kernel: None) -> None:
    guest.run("vccidctl remove vccid0")
    guest.run(until("opensc-tool --list-readers | grep -q ' No .*twin2'"))
    guest.run(f"vccidctl insert vccid0 {CARD} --atr t1 && {all_see('Yes')}")
    test_opensc_tests_the_card(guest, quiet_kernel, 2)


def test_cards_come_and_go(guest: Guest, quiet_kernel: None) -> None:
    for _ in range(2):
        guest.run("vccidctl remove vccid0 --wait && vccidctl remove second --wait")
        guest.run(all_see("No"))
        guest.run(f"{INSERT} && {all_see('Yes')}")


def test_it_is_a_terminal_to_other_programs(guest: Guest, quiet_kernel: None) -> None:
    settings = guest.run("stty -F /dev/ttyVCCID0 -a").text
    assert "speed 115200 baud" in settings and "-icanon" in settings
    guest.run("stty -F /dev/ttyVCCID0 9600 && stty -F /dev/ttyVCCID0 | grep -q 'speed 9600'")
    assert guest.run("runuser -u nobody -- cat /dev/ttyVCCID0", check=False).code != 0

    def poll_and_read() -> str:
        import os
        import select
        import signal
        import termios

        line = os.open("/dev/ttyVCCID3", os.O_RDWR | os.O_NOCTTY)
        assert os.isatty(line)
        assert select.select([line], [line], [], 0) == ([], [line], [])
        os.write(line, bytes.fromhex("03066500000000000100000061"))
        assert select.select([line], [], [], 10) == ([line], [], [])
        echo = os.read(line, 4096)
        termios.tcflush(line, termios.TCIOFLUSH)
        termios.tcdrain(line)
        os.set_blocking(line, False)
        try:
            os.read(line, 1)
        except BlockingIOError:
            os.set_blocking(line, True)

        class Ended(Exception):
            pass

        def end(*_: object) -> None:
            raise Ended

        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            os.read(line, 1)
        except Ended:
            return echo.hex()
        return "no signal"

    guest.run("vccidctl attach tty /dev/ttyVCCID3")
    try:
        said = guest.call(poll_and_read)
    finally:
        guest.run("vccidctl detach tty /dev/ttyVCCID3")
    assert said == "03066500000000000100000061" + "030681000000000001010001" + "85"
    assert guest.run("test -e /dev/ttyVCCID3", check=False).code != 0


def test_what_is_taken_and_what_is_not_there_are_told(guest: Guest, quiet_kernel: None) -> None:
    taken = guest.run("vccidctl attach tty /dev/ttyVCCID1", check=False)
    assert taken.code == 1 and "another device has this name" in taken.errors
    wrong = guest.run("vccidctl attach tty /dev/ttyS0", check=False)
    assert wrong.code == 1 and "as /dev/ttyVCCID0" in wrong.errors


def test_pcscd_is_killed_in_the_middle(guest: Guest, quiet_kernel: None) -> None:
    guest.run("systemctl kill --signal=KILL pcscd.service")
    start_pcscd(guest)
    status = guest.run("vccidctl status").text
    assert all(f"{device}, open" in status for device in DEVICES)


def test_the_daemon_is_killed_and_all_is_back(guest: Guest, quiet_kernel: None) -> None:
    """pcscd opens a serial reader once, so it is started again too."""
    guest.run("systemctl kill --signal=KILL vccid.service")
    guest.run(until("vccidctl status"))
    guest.run(until(f"test -c {DEVICES[0]} && test -c {DEVICES[1]} && test -c {DEVICES[2]}"))
    start_pcscd(guest)
    test_opensc_tests_the_card(guest, quiet_kernel, 1)


def test_detached_it_is_gone(guest: Guest, quiet_kernel: None) -> None:
    for detach in ("tty", "tty --reader second", "pty"):
        guest.run(f"vccidctl detach {detach}")
    for device in DEVICES:
        assert guest.run(f"test -e {device}", check=False).code != 0
