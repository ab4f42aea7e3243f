# SPDX-License-Identifier: LGPL-2.1-or-later
"""The units under a real systemd, with the system's own pcscd: one installed machine, used.

The tests follow one another on one guest, as a day on that machine would.
"""

import pytest

from tests.peers.libcacard import make_database

from .conftest import MakeGuest
from .guest import Guest, GuestOptions, until
from .installation import SHARE_DATABASE, install

PIN = "123456"
CAC = "test \"$(opensc-tool -n)\" = 'Common Access Card (CAC)'"


@pytest.fixture(scope="module")
def guest(make_guest: MakeGuest, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A machine with vccid installed, nothing started, and three certificates."""
    guest = make_guest(GuestOptions(systemd=True))
    database = make_database(tmp_path_factory.mktemp("nss") / "db", PIN)
    guest.push(database.directory, "/etc/pki/nssdb")
    guest.write("/root/password", PIN + "\n", mode=0o600)
    install(guest)
    guest.run(SHARE_DATABASE)
    return guest


def shown(guest: Guest, *properties: str) -> dict[str, str]:
    """Properties of vccid.service."""
    text = guest.run(f"systemctl show vccid.service --property={','.join(properties)}").text
    return dict(line.split("=", 1) for line in text.splitlines())


def main_pid(guest: Guest) -> int:
    return int(shown(guest, "MainPID")["MainPID"])


def journal(guest: Guest) -> str:
    return guest.run("journalctl --unit vccid.service --output cat --no-pager").text


def test_starts_when_the_socket_is_used(guest: Guest, quiet_kernel: None) -> None:
    guest.run("systemctl start vccid.socket")
    assert shown(guest, "ActiveState")["ActiveState"] == "inactive"
    guest.run("vccidctl status")
    state = shown(guest, "ActiveState", "StatusText", "MainPID")
    assert state["ActiveState"] == "active"
    assert "reader" in state["StatusText"]
    assert guest.run(f"ps -o user= -p {state['MainPID']}").text.strip() == "vccid"


def test_card_in_the_system_s_pcscd(guest: Guest, quiet_kernel: None) -> None:
    guest.run("vccidctl insert --certs cert1,cert2,cert3 --password-file /root/password")
    guest.run(until(CAC))
    assert "vccid vccid0" in guest.run("opensc-tool -l").text
    signing = f"pkcs11-tool --login --pin {PIN} --sign --mechanism SHA256-RSA-PKCS --id 0002"
    guest.run(f"echo message >message && {signing} -i message -o signature")
    guest.run("pkcs15-tool --read-public-key 0002 -o public.pem")
    verified = guest.run("openssl dgst -sha256 -verify public.pem -signature signature message")
    assert "Verified OK" in verified.text


def test_a_stranger_is_told_which_group_is_missing(guest: Guest) -> None:
    refused = guest.run("runuser -u nobody -- vccidctl status", check=False)
    assert refused.code != 0
    assert "vccid" in refused.errors
    assert "group" in refused.errors


def test_reload_reads_the_settings_again(guest: Guest, quiet_kernel: None) -> None:
    before = main_pid(guest)
    guest.write("/etc/vccid/vccid.toml", "[reader.second]\n")
    guest.run("systemctl reload vccid && " + until("vccidctl reader list | grep -q second"))
    guest.write("/etc/vccid/vccid.toml", "[reader.second]\nno-such-key = 1\n")
    guest.run("systemctl reload vccid")
    guest.run(until("systemctl show -p StatusText vccid | grep -q unfit"))
    assert "second" in guest.run("vccidctl reader list").text
    guest.run("rm /etc/vccid/vccid.toml && systemctl reload vccid")
    guest.run(until("! vccidctl reader list | grep -q second"))
    assert main_pid(guest) == before
    assert guest.run(CAC).code == 0


def test_killed_it_is_back_with_its_card(guest: Guest, quiet_kernel: None) -> None:
    before = main_pid(guest)
    guest.run(f"kill -9 {before} && {until('vccidctl status')} && {until(CAC)}")
    assert main_pid(guest) not in (0, before)
    assert int(shown(guest, "NRestarts")["NRestarts"]) == 1


def test_restarted_it_is_back_with_its_card(guest: Guest, quiet_kernel: None) -> None:
    before = main_pid(guest)
    guest.write("/run/systemd/system/vccid.service.d/dog.conf", "[Service]\nWatchdogSec=6\n")
    guest.run(f"systemctl daemon-reload && systemctl restart vccid && {until(CAC)}")
    assert main_pid(guest) not in (0, before)


def test_the_watchdog_ends_a_daemon_that_hangs(guest: Guest) -> None:
    before = main_pid(guest)
    guest.run(f"kill -STOP {before}")
    guest.run(until("journalctl --unit vccid.service | grep -q 'Watchdog timeout (limit 6s)'"))
    guest.run(until(f"test $(systemctl show -P MainPID vccid) -gt {before}"))
    guest.run(until(CAC))


def test_stop_is_clean(guest: Guest, quiet_kernel: None) -> None:
    guest.run("vccidctl remove && systemctl stop vccid.socket vccid.service")
    assert shown(guest, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert guest.run("systemctl --failed --no-legend").text == ""
    assert "Traceback" not in journal(guest)
    assert PIN not in journal(guest)


def test_pcscd_shows_an_empty_reader_without_the_daemon(guest: Guest) -> None:
    assert "No" in guest.run(until("opensc-tool -l | grep '^0 *No'")).text


def test_unfit_settings_are_told_to_each_and_the_socket_stays(guest: Guest) -> None:
    guest.write("/etc/vccid/vccid.toml", "nonsense = 1\n")
    guest.run("systemctl start vccid.socket")
    for _ in range(8):
        told = guest.run("vccidctl status", check=False)
        assert told.code == 1
        assert "vccid.toml:1: unknown table [nonsense]" in told.errors
    assert int(shown(guest, "NRestarts")["NRestarts"]) == 0
    guest.run("rm /etc/vccid/vccid.toml && vccidctl status")
