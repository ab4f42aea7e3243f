# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file view under a real kernel: who mounts, and who looks.

The tests follow one another on one guest. Jane is an ordinary user in group vccid.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.unit.files.daemon_says import certificate
from vccid.files.certificates import pem

from .channel import Result
from .conftest import MakeGuest
from .guest import Guest, GuestOptions, until
from .installation import install

#: What the kernel says of a host that is slow.
KERNEL_NOISE = ("hrtimer: interrupt took",)
HERE = "/home/jane/cards"
CERTS = f"{HERE}/vccid0/card/certs"
FILES = "/srv/files"
#: Ten certificates of one key; their names are hard on a file system.
NAMES = (
    *("id", "sign", "x/id", ".hidden", "-rf", "Doe, Jane's (ID)", "Jürgen", "v1.2"),
    *("x" * 240, "y/" + "x" * 240),
)
PATHS = [f"{FILES}/{name}.pem" for name in NAMES]


@pytest.fixture(scope="module")
def guest(make_guest: MakeGuest, tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """A machine with vccid installed and running, and Jane's directory."""
    guest = make_guest(GuestOptions(systemd=True))
    files = tmp_path_factory.mktemp("files")
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name in NAMES:
        path = files / f"{name}.pem"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pem(certificate(name[:60], key)) + private)
    guest.push(files, FILES)
    install(guest)
    guest.run(f"chmod -R a+rX {FILES} && mkdir -p /etc/pki/nssdb")
    guest.run(
        f"useradd --create-home --groups vccid jane && runuser -u jane -- mkdir {HERE}"
        " && modprobe fuse && udevadm settle"
        " && systemctl daemon-reload && systemctl start vccid.socket vccid.service"
    )
    return guest


def jane(guest: Guest, command: str, check: bool = True) -> Result:
    """A shell command as Jane, in her home."""
    return guest.run(
        "cd /home/jane && exec runuser -u jane -- sh", stdin=command.encode(), check=check
    )


def insert(paths: list[str], reader: str = "vccid0") -> None:
    """In the guest: put a card in."""
    from pathlib import Path

    from vccid.ctl.client import Client

    with Client(Path("/run/vccid/control")) as client:
        client.call("Insert", {"reader": reader, "certificates": paths})


def test_an_unprivileged_user_mounts(guest: Guest, quiet_kernel: None) -> None:
    assert "are there" in jane(guest, "vccidctl mount cards").text
    assert jane(guest, f"ls -A {HERE}/vccid0").text.split() == ["events", "state"]
    assert jane(guest, f"cat {HERE}/vccid0/state").text == "empty\n"
    line = guest.run(f"grep ' {HERE} ' /proc/mounts").text
    assert line.startswith(f"vccid {HERE} fuse.vccid ro,nosuid,nodev,noexec")
    assert guest.run("pgrep -u jane -f 'vccidctl mount'").text


def test_stock_programs_read_the_files(guest: Guest, quiet_kernel: None) -> None:
    guest.call(insert, PATHS)
    said = jane(
        guest,
        f"""set -e
cat {HERE}/vccid0/state {HERE}/vccid0/atr {HERE}/vccid0/card/serial
cat {HERE}/vccid0/card/pin-tries
for name in {CERTS}/*.pem; do openssl x509 -in "$name" -noout -subject; done
for name in {CERTS}/*.der; do openssl x509 -inform der -in "$name" -noout -subject; done
openssl x509 -in {CERTS}/signature.pem -noout -pubkey >key
openssl x509 -in {CERTS}/sign.pem -noout -pubkey | cmp - key
cat {CERTS}/*.pub
""",
    ).text.splitlines()
    status = guest.run("vccidctl --json status").text
    assert said[:2] == ["inserted", "3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34"]
    assert said[2] in status and said[3] == "3"
    assert sum(line.startswith("subject=CN = ") for line in said) == 2 * (len(NAMES) + 2)
    public = [line for line in said if line.startswith("ssh-rsa ")]
    assert len(public) == len(NAMES) + 2
    assert {line.split(" ", 2)[1] for line in public} == {public[0].split()[1]}


def test_names_of_certificates(guest: Guest) -> None:
    names = jane(guest, f"ls {CERTS} | grep pub").text.splitlines()
    long = "x" * 240
    expected = {
        *("id", "sign", "id~2", "_hidden", "_rf", "Doe, Jane's (ID)", "Jürgen", "v1.2"),
        *(long, f"{long}~2", "signature", "encryption"),
    }
    assert {name.removesuffix(".pub") for name in names} == expected
    assert jane(guest, f"readlink {CERTS}/encryption.pub").text == "id~2.pub\n"


def test_what_stat_find_and_ls_say(guest: Guest) -> None:
    said = jane(
        guest,
        f"""set -e
stat -c '%a %h %U %F %n' {HERE} {HERE}/vccid0 {HERE}/vccid0/card {CERTS} {CERTS}/id.der
stat -c '%s %b %Y' {CERTS}/id.der; wc -c <{CERTS}/id.der
date +%s
stat -c %F {HERE}/vccid0/events
stat -f -c '%l %s %b' {HERE}
find {HERE} -type f | wc -l; find {HERE} -type l | wc -l; find {HERE} -type d | wc -l
""",
    ).text.splitlines()
    assert said[:5] == [
        f"555 3 jane directory {HERE}",
        f"555 3 jane directory {HERE}/vccid0",
        f"555 3 jane directory {HERE}/vccid0/card",
        f"555 2 jane directory {CERTS}",
        f"444 1 jane regular file {CERTS}/id.der",
    ]
    size, blocks, changed = map(int, said[5].split())
    assert (size, blocks) == (int(said[6]), -(-size // 512))
    assert 0 <= int(said[7]) - changed < 600
    assert said[8:10] == ["regular empty file", "255 4096 0"]
    assert list(map(int, said[10:])) == [5 + 3 * len(NAMES), 6, 4]
    assert jane(guest, f"ls -lR {HERE} && ls -la {HERE} && du -a {HERE}").errors == ""


def test_nothing_can_be_changed(guest: Guest) -> None:
    for command in (
        f"touch {HERE}/new",
        f"mkdir {HERE}/new",
        f"rm -f {CERTS}/id.pem",
        f"chmod 666 {CERTS}/id.pem",
        f": >{HERE}/vccid0/state",
        f"mv {CERTS}/id.pem {CERTS}/other.pem",
    ):
        refused = jane(guest, command, check=False)
        assert refused.code != 0
        assert "Read-only file system" in refused.errors, command


def test_pin_tries_are_told_as_they_are(guest: Guest, quiet_kernel: None) -> None:
    wrong = "0020 0000 08 3132333435360000".replace(" ", "")
    tries = f"cat {HERE}/vccid0/card/pin-tries; stat -c %s {HERE}/vccid0/card/pin-tries"
    assert jane(guest, tries).text == "3\n2\n"
    guest.run("vccidctl attach usbip && systemctl start pcscd")
    select = "00:A4:04:00:07:A0:00:00:00:79:03:00"
    verify = ":".join(wrong[i : i + 2] for i in range(0, len(wrong), 2)).replace("36:00", "37:FF")
    guest.run(until("opensc-tool -n"))
    assert "63" in guest.run(f"opensc-tool -s {select} -s {verify}", check=False).text
    assert jane(guest, tries).text == "2\n2\n"
    guest.run("vccidctl pin reset")
    assert jane(guest, tries).text == "3\n2\n"


def come_and_go(rounds: int, here: str, paths: list[str]) -> list[object]:
    """As Jane: each look right behind each change; then what an open file still has."""
    import os
    from pathlib import Path

    from vccid.ctl.client import Client

    reader = Path(here, "vccid0")
    kept = []
    with Client(Path("/run/vccid/control")) as client:
        for _ in range(rounds):
            client.call("Remove")
            assert not (reader / "card").exists()
            assert sorted(os.listdir(reader)) == ["events", "state"]
            assert (reader / "state").read_text() == "empty\n"
            assert reader.stat().st_nlink == 2
            client.call("Insert", {"certificates": paths})
            assert (reader / "state").read_text() == "inserted\n"
            assert (reader / "card/certs/id.pem").stat().st_size > 0
            assert reader.stat().st_nlink == 3
        inside = os.open(reader / "card", os.O_RDONLY)
        with (reader / "card/certs/id.pem").open("rb") as file:
            before = os.fstat(file.fileno())
            client.call("Remove")
            after = os.fstat(file.fileno())
            kept = [before.st_nlink, after.st_nlink, before.st_size - after.st_size]
            kept += [len(file.read()) - before.st_size, os.listdir(inside)]
            client.call("Insert", {"certificates": paths})
            kept += [
                os.listdir(inside),
                (reader / "card/certs/id.pem").stat().st_ino == before.st_ino,
            ]
    return kept


def test_cards_come_and_go_at_once_and_open_files_stay(guest: Guest, quiet_kernel: None) -> None:
    kept = guest.call(come_and_go, 10, HERE, PATHS[:3], user="jane")
    assert kept == [1, 0, 0, 0, [], [], False]


def read_events(here: str) -> list[object]:
    """As Jane: several readers of events, polls, and every way to end one that waits."""
    import json
    import os
    import select
    import signal
    import subprocess
    from pathlib import Path

    from vccid.ctl.client import Client

    events, read = Path(here, "other", "events"), ["0", "0x20000"]
    with Client(Path("/run/vccid/control")) as client:
        client.call("AddReader", {"name": "other"})
        waiting = [subprocess.Popen(["cat", events], stdout=subprocess.PIPE) for _ in range(5)]
        shared = os.open(events, os.O_RDONLY)
        waiting += [subprocess.Popen(["cat"], stdin=shared) for _ in range(2)]
        poller = select.epoll()
        quiet = os.open(events, os.O_RDONLY | os.O_NONBLOCK)
        poller.register(quiet, select.EPOLLIN)
        try:
            os.read(quiet, 100)
            raise AssertionError("there was something to read")
        except BlockingIOError:
            assert poller.poll(0) == []
        for process in waiting:  # until it is in read(2), with the size that cat reads
            while Path(f"/proc/{process.pid}/syscall").read_text().split()[::3][:2] != read:
                continue
        ended = []
        for process, number in zip(
            (waiting[0], waiting[1], waiting[5], waiting[6]),
            (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL),
            strict=True,
        ):
            process.send_signal(number)
            ended.append(process.wait(30))
        waiting[2].send_signal(signal.SIGSTOP)
        os.waitpid(waiting[2].pid, os.WUNTRACED)
        waiting[2].send_signal(signal.SIGCONT)
        client.call("RemoveReader", {"name": "other"})
        lines = [process.communicate(timeout=30)[0].splitlines() for process in waiting[2:5]]
        assert [process.returncode for process in waiting[2:5]] == [0, 0, 0]
        assert poller.poll(30)
        lines.append(os.read(quiet, 4096).splitlines())
        assert os.read(quiet, 4096) == b""
        assert not events.parent.exists()
    told = [[json.loads(line)["event"] for line in each] for each in lines]
    assert all(each == told[0] for each in told)
    return [ended, told[0]]


def test_events(guest: Guest, quiet_kernel: None) -> None:
    ended, told = guest.call(read_events, HERE, user="jane")
    assert ended == [-15, -9, -2, -9]
    assert told == [{"kind": "reader-removed", "reader": "other", "detail": ""}]


def test_events_are_those_of_the_reader_as_monitor_has_them(guest: Guest) -> None:
    cat = guest.start(f"exec runuser -u jane -- cat {HERE}/vccid0/events")
    guest.run(until("pgrep -x cat -u jane") + f" && {until('vccidctl --json status')}")
    guest.run(
        "vccidctl reader add elsewhere && vccidctl remove && vccidctl reader remove elsewhere"
    )
    cat.wait_for("card-removed")
    assert "elsewhere" not in cat.output
    assert cat.output.startswith('{"readers": null, "event": {"kind": "')
    cat.stop()


def test_only_who_mounted_may_look(guest: Guest) -> None:
    for user in ("root", "nobody"):
        refused = guest.run(f"runuser -u {user} -- ls {HERE}/vccid0", check=False)
        assert "Permission denied" in refused.errors


def test_others_may_where_the_system_lets_users_allow_it(guest: Guest) -> None:
    jane(guest, f"fusermount3 -u {HERE}")
    guest.run("chmod a+x /home/jane")
    refused = jane(guest, "vccidctl mount --allow-other cards", check=False)
    assert refused.code == 1
    assert "user_allow_other" in refused.errors and "/etc/fuse.conf" in refused.errors
    guest.run("cp /etc/fuse.conf /root && echo user_allow_other >>/etc/fuse.conf")
    jane(guest, "vccidctl mount --allow-other cards")
    assert guest.run(f"runuser -u nobody -- cat {HERE}/vccid0/state").text == "empty\n"
    jane(guest, f"fusermount3 -u {HERE}")
    guest.run("mv /root/fuse.conf /etc/fuse.conf")


@pytest.mark.parametrize(
    ("before", "arguments", "after", "words"),
    [
        ("", "missing", "", ("no directory /home/jane/missing", "mkdir /home/jane/missing")),
        ("", "full", "", ("not empty", "hide")),
        ("", "full/file", "", ("Not a directory",)),
        ("", "/opt", "", ("not yours",)),
        ("", "/", "", ("something else is mounted at /",)),
        ("mv /dev/fuse /dev/f", HERE, "mv /dev/f /dev/fuse", ("no /dev/fuse", "modprobe fuse")),
        ("chmod 600 /dev/fuse", HERE, "chmod 666 /dev/fuse", ("closed to you", "chmod 0666")),
        (
            "mv /usr/bin/fusermount3 /root",
            HERE,
            "mv /root/fusermount3 /usr/bin",
            ("fusermount3 is missing", "apt install fuse3"),
        ),
        (
            "chmod u-s /usr/bin/fusermount3",
            HERE,
            "chmod u+s /usr/bin/fusermount3",
            ("cannot be mounted on", "setuid root"),
        ),
        (
            "cd /usr/lib/python3/dist-packages && mv pyfuse3_asyncio.py /root",
            HERE,
            "mv /root/pyfuse3_asyncio.py /usr/lib/python3/dist-packages",
            ("pyfuse3 is missing", "apt install python3-pyfuse3"),
        ),
        ("", f"--user nobody {HERE}", "", ("only root",)),
    ],
)
def test_what_is_wrong_is_said_and_what_to_do(
    guest: Guest, before: str, arguments: str, after: str, words: tuple[str, ...]
) -> None:
    jane(guest, "mkdir -p full && touch full/file")
    guest.run(before or ":")
    try:
        refused = jane(guest, f"vccidctl mount {arguments}", check=False)
    finally:
        guest.run(after or ":")
    assert refused.code in (1, 4)
    assert refused.errors.startswith("vccidctl: ") and "Traceback" not in refused.errors
    for word in words:
        assert word in refused.errors


def test_no_privilege_can_be_gained_here(guest: Guest) -> None:
    refused = jane(guest, f"setpriv --no-new-privs vccidctl mount {HERE}", check=False)
    assert "NoNewPrivileges" in refused.errors and "vccid-files.service" in refused.errors


def test_mounted_already(guest: Guest) -> None:
    jane(guest, "vccidctl mount cards")
    refused = jane(guest, "vccidctl mount cards", check=False)
    assert f"mounted at {HERE} already" in refused.errors
    assert f"fusermount3 -u {HERE}" in refused.errors
