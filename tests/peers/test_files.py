# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file view under the real kernel: who mounts, who looks, and what there is to see.

The tests follow one another. With the system's daemon, and as a service: tests/vm/test_files.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.peers.ifd_client import IfdClient
from tests.peers.jane import Jane, jane_with, missing
from tests.unit.files.daemon_says import certificate
from vccid.ctl.client import Client
from vccid.files.certificates import pem
from vccid.iso7816 import status

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

#: Ten certificates of one key; their names are hard on a file system.
NAMES = (
    *("id", "sign", "x/id", ".hidden", "-rf", "Doe, Jane's (ID)", "Jürgen", "v1.2"),
    *("x" * 240, "y/" + "x" * 240),
)
SELECT = bytes.fromhex("00A4040007A0000000790300")
VERIFY_WRONG = bytes.fromhex("00200000083132333435 37FFFF")


@pytest.fixture(scope="module")
def jane() -> Iterator[Jane]:
    with jane_with() as jane:
        yield jane


@pytest.fixture(scope="module")
def paths(jane: Jane) -> list[str]:
    """Files of certificates with their key."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    paths = [jane.home / "certificates" / f"{name}.pem" for name in NAMES]
    for path, name in zip(paths, NAMES, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pem(certificate(name[:60], key)) + private)
    return [str(path) for path in paths]


@pytest.fixture
def certs(jane: Jane) -> Path:
    return jane.here / "vccid0" / "card" / "certs"


def test_an_unprivileged_user_mounts(jane: Jane) -> None:
    assert "are there" in jane.sh("vccidctl mount cards").stdout
    assert jane.sh("ls -A cards/vccid0").stdout.split() == ["events", "state"]
    assert jane.sh("cat cards/vccid0/state").stdout == "empty\n"
    (line,) = jane.mounts()
    assert line.startswith(f"vccid {jane.here} fuse.vccid ro,nosuid,nodev,noexec")


def test_stock_programs_read_the_files(jane: Jane, certs: Path, paths: list[str]) -> None:
    with Client(jane.daemon.control) as client:
        client.call("Insert", {"certificates": paths})
    said = jane.sh(
        f"""set -e
cd cards/vccid0 && cat state atr card/serial card/pin-tries
show='openssl x509 -noout -subject -nameopt RFC2253'
for name in {certs}/*.pem; do $show -in "$name"; done
for name in {certs}/*.der; do $show -inform der -in "$name"; done
cmp {certs}/signature.pem {certs}/sign.pem
for name in {certs}/*.pub; do ssh-keygen -l -f "$name"; done
"""
    ).stdout.splitlines()
    serial = jane.daemon.ctl_json("card", "info")["card"]["serial"]
    assert said[:2] == ["inserted", "3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34"]
    assert said[2:4] == [serial, "3"]
    assert sum(line.startswith("subject=CN=") for line in said) == 2 * (len(NAMES) + 2)
    public = [line for line in said if "SHA256:" in line]
    assert len(public) == len(NAMES) + 2
    assert len({line.split()[1] for line in public}) == 1


def test_names_of_certificates(jane: Jane, certs: Path) -> None:
    names = jane.sh(f"ls {certs} | grep pub").stdout.splitlines()
    long = "x" * 240
    expected = {
        *("id", "sign", "id~2", "_hidden", "_rf", "Doe, Jane's (ID)", "Jürgen", "v1.2"),
        *(long, f"{long}~2", "signature", "encryption"),
    }
    assert {name.removesuffix(".pub") for name in names} == expected
    assert jane.sh(f"readlink {certs}/encryption.pub").stdout == "id~2.pub\n"


def test_what_stat_find_and_ls_say(jane: Jane) -> None:
    said = jane.sh(
        """set -e
cd cards
stat -c '%a %h %U %F %n' . vccid0 vccid0/card vccid0/card/certs vccid0/card/certs/id.der
stat -c '%s %b %Y' vccid0/card/certs/id.der; wc -c <vccid0/card/certs/id.der
date +%s
stat -c %F vccid0/events
stat -f -c '%l %s %b' .
find . -type f | wc -l; find . -type l | wc -l; find . -type d | wc -l
"""
    ).stdout.splitlines()
    assert said[:5] == [
        "555 3 nobody directory .",
        "555 3 nobody directory vccid0",
        "555 3 nobody directory vccid0/card",
        "555 2 nobody directory vccid0/card/certs",
        "444 1 nobody regular file vccid0/card/certs/id.der",
    ]
    size, blocks, changed = map(int, said[5].split())
    assert (size, blocks) == (int(said[6]), -(-size // 512))
    assert 0 <= int(said[7]) - changed < 600
    assert said[8:10] == ["regular empty file", "255 4096 0"]
    assert list(map(int, said[10:])) == [5 + 3 * len(NAMES), 6, 4]
    assert jane.sh("ls -lR cards && ls -la cards && du -a cards").stderr == ""


def test_nothing_can_be_changed(jane: Jane, certs: Path) -> None:
    for command in (
        "touch cards/new",
        "mkdir cards/new",
        f"rm -f {certs}/id.pem",
        f"chmod 666 {certs}/id.pem",
        ": >cards/vccid0/state",
        f"mv {certs}/id.pem {certs}/other.pem",
    ):
        refused = jane.sh(command, check=False)
        assert refused.returncode != 0
        assert "Read-only file system" in refused.stderr, command


def test_pin_tries_are_told_as_they_are(jane: Jane) -> None:
    tries = "cat cards/vccid0/card/pin-tries; stat -c %s cards/vccid0/card/pin-tries"
    assert jane.sh(tries).stdout == "3\n2\n"
    with IfdClient(jane.daemon.ifd()) as host:
        host.power_on()
        host.transmit(SELECT)
        assert host.transmit(VERIFY_WRONG) == status.tries_left(2)
    assert jane.sh(tries).stdout == "2\n2\n"
    jane.daemon.ctl("pin", "reset")
    assert jane.sh(tries).stdout == "3\n2\n"


def test_cards_come_and_go_at_once_and_open_files_stay(jane: Jane, paths: list[str]) -> None:
    kept = jane.look("come_and_go", 5, paths[:3])
    assert kept == [1, 0, 0, 0, [], [], False]


def test_events(jane: Jane) -> None:
    ended, told = jane.look("read_events")
    assert ended == [-15, -9, -2, -9]
    assert told == [{"kind": "reader-removed", "reader": "other", "detail": ""}]


def test_events_are_those_of_the_reader_as_monitor_has_them(jane: Jane) -> None:
    with jane.cat("vccid0/events") as cat:
        jane.daemon.ctl("reader", "add", "elsewhere")
        jane.daemon.ctl("remove")
        assert cat.stdout is not None
        line = cat.stdout.readline()
        cat.kill()
    assert line.startswith('{"readers": null, "event": {"kind": "')
    assert "card-removed" in line
    jane.daemon.ctl("reader", "remove", "elsewhere")


def test_many_readers_and_many_who_look(jane: Jane, paths: list[str]) -> None:
    seen, changes, left = jane.look("crowd", paths)
    assert seen == 3 * len(NAMES)
    assert changes > 0 and left == 1


def test_mounted_already(jane: Jane) -> None:
    refused = jane.sh("vccidctl mount cards", check=False)
    assert f"mounted at {jane.here} already" in refused.stderr
    assert f"fusermount3 -u {jane.here}" in refused.stderr


def test_only_who_mounted_may_look(jane: Jane) -> None:
    refused = jane.sh_apart(f"ls {jane.here}/vccid0", check=False)
    assert "Permission denied" in refused.stderr
    jane.sh("fusermount3 -u cards")
    jane.wait_for_mounts(0)


def test_others_may_where_the_system_lets_users_allow_it(jane: Jane) -> None:
    refused = jane.sh("vccidctl mount --allow-other cards", check=False)
    assert refused.returncode == 1
    assert "user_allow_other" in refused.stderr and "/etc/fuse.conf" in refused.stderr
    allowed = jane.sh_apart(
        """echo user_allow_other >tmp && mount --bind tmp /etc/fuse.conf
$JANE vccidctl mount --allow-other cards
cat cards/vccid0/state
$JANE fusermount3 -u cards"""
    )
    assert allowed.stdout.endswith("\nempty\n")


DEV = "mount -t tmpfs dev /dev && mknod -m 666 /dev/null c 1 3"


@pytest.mark.parametrize(
    ("before", "arguments", "words"),
    [
        ("", "missing", ("no directory", "mkdir /")),
        ("mkdir cards/x", "cards", ("not empty", "hide")),
        ("touch file", "file", ("Not a directory",)),
        ("mkdir root", "root", ("not yours",)),
        ("", "/", ("something else is mounted at /",)),
        (DEV, "cards", ("no /dev/fuse", "modprobe fuse")),
        (f"{DEV} && mknod -m 600 /dev/fuse c 10 229", "cards", ("closed to you", "chmod 0666")),
        (
            "mount --bind /dev/null $(which fusermount3)",
            "cards",
            ("fusermount3 is missing", "apt install fuse3"),
        ),
        (
            "at=$(which fusermount3); mount --bind $at $at; mount -o remount,bind,nosuid $at",
            "cards",
            ("cannot be mounted on", "setuid root"),
        ),
        (
            "echo raise ImportError >pyfuse3_asyncio.py; export PYTHONPATH=.",
            "cards",
            ("pyfuse3 is missing", "apt install python3-pyfuse3"),
        ),
        ("JANE=\"$JANE --no-new-privs\"", "cards", ("NoNewPrivileges", "vccid-files.service")),
        ("", "--user nobody cards", ("only root",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_what_to_do(
    jane: Jane, before: str, arguments: str, words: tuple[str, ...]
) -> None:
    # In a home of its own, which is gone with the mounts.
    home = f"mount -t tmpfs home {jane.home}; cd {jane.home}; $JANE true; mkdir -m 777 cards"
    refused = jane.sh_apart(f"{home}\n{before}\n$JANE vccidctl mount {arguments}", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("vccidctl: ") and "Traceback" not in refused.stderr
    for word in words:
        assert word in refused.stderr
