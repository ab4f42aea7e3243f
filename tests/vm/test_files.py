# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file view of the system's daemon: a member of its group mounts, and the companion unit.

The tests follow one another on one guest. What needs no system: tests/peers/test_files.py and
test_files_end.py, of which some is repeated here under Debian's own kernel.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.peers.pem import make_pem

from .conftest import MakeGuest
from .guest import Guest, GuestOptions, until
from .installation import install

CONTROL = "/run/vccid/control"
HERE = "/home/jane/cards"
#: Where the companion unit mounts.
UNIT = "/run/vccid-files"
CARD = "/srv/id.pem"


@pytest.fixture(scope="module")
def guest(make_guest: MakeGuest, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A machine with vccid installed and a card in its reader; Jane is in group vccid."""
    guest = make_guest(GuestOptions(systemd=True))
    pem: Path = make_pem(tmp_path_factory.mktemp("files") / "id.pem")
    guest.write(CARD, pem.read_bytes())
    install(guest)
    guest.run(
        f"""set -e
useradd --create-home --groups vccid jane
runuser -u jane -- mkdir {HERE}
modprobe fuse
udevadm settle
systemctl start vccid.socket
vccidctl insert --certs {CARD}
"""
    )
    return guest


def jane(guest: Guest, command: str) -> str:
    """What a shell command as Jane prints."""
    return guest.run("exec runuser -u jane -- sh -e", stdin=command.encode()).text


def look(guest: Guest, function: str, *arguments: object) -> Any:
    """What one of tests/peers/look.py returns to Jane."""
    given = json.dumps([CONTROL, HERE, *arguments])
    return json.loads(jane(guest, f"cd /src && python3 -m tests.peers.look {function} '{given}'"))


def test_a_member_of_the_group_mounts(guest: Guest, quiet_kernel: None) -> None:
    jane(guest, f"vccidctl mount {HERE}")
    line = guest.run(f"grep ' {HERE} ' /proc/mounts").text
    assert line.startswith(f"vccid {HERE} fuse.vccid ro,nosuid,nodev,noexec")
    certificate = f"{HERE}/vccid0/card/certs/id.pem"
    assert jane(guest, f"openssl x509 -in {certificate} -noout -subject") == "subject=CN = id\n"
    refused = guest.run(f"ls {HERE}/vccid0", check=False)
    assert "Permission denied" in refused.errors


def test_cards_come_and_go_and_events_tell(guest: Guest, quiet_kernel: None) -> None:
    assert look(guest, "come_and_go", 2, [CARD]) == [1, 0, 0, 0, [], [], False]
    ended, told = look(guest, "read_events")
    assert ended == [-15, -9, -2, -9]
    assert told == [{"kind": "reader-removed", "reader": "other", "detail": ""}]
    jane(guest, f"fusermount3 -u {HERE}")


def test_the_companion_unit_shows_the_files_to_everybody(guest: Guest, quiet_kernel: None) -> None:
    said = guest.run(
        f"""set -e
systemctl start vccid-files
runuser -u nobody -- openssl x509 -in {UNIT}/vccid0/card/certs/id.pem -noout -subject
id -u vccid
cat /proc/$(systemctl show -P MainPID vccid-files)/status
"""
    ).text
    subject, vccid, *status = said.splitlines()
    assert subject == "subject=CN = id"
    assert "\t".join(("Uid:", *([vccid] * 4))) in status
    for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"):
        assert line in status
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status


@pytest.mark.parametrize("killed", ["vccid-files", "vccid"])
def test_killed_the_companion_is_back(guest: Guest, killed: str) -> None:
    # The shell's own read first, which costs no process.
    back = f"read -r state <{UNIT}/vccid0/state && test $state = inserted"
    back += " && test $(systemctl show -P MainPID vccid-files) -gt $before"
    guest.run(
        f"""before=$(systemctl show -P MainPID vccid-files)
systemctl kill --signal KILL --kill-whom all {killed}
{until(f"( {back} ) 2>/dev/null")}
"""
    )
    assert guest.run(f"grep -c ' {UNIT} ' /proc/mounts").text == "1\n"


def test_restarted_and_stopped_the_daemon_takes_it_along(guest: Guest, quiet_kernel: None) -> None:
    said = guest.run(
        f"""set -e
systemctl restart vccid
{until("systemctl is-active --quiet vccid-files")}
systemctl stop vccid.socket vccid.service
systemctl show --value -p ActiveState -p Result vccid-files
test ! -e {UNIT}
systemctl --failed --no-legend
journalctl --no-pager -u vccid -u vccid-files | grep -A 9 Traceback || :
"""
    ).text
    assert said.split() == ["success", "inactive"]
