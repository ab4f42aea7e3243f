# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vccid run` with the real pcscd and OpenSC: as an ordinary user, and however it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.peers.daemon import BIN, PATIENCE
from tests.peers.desk import OPENSC_MODULE, PIN
from tests.peers.libcacard import Database
from tests.peers.user import BECOME_NOBODY, NOBODY, User, ended, temporary_user, wait_for
from tests.unit.card.piv.test_optional_objects import JPEG

ROOT = Path(__file__).parents[2]
CARD = "vccid vccid0 00 00"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, and mounts")

#: Where unprivileged user namespaces are forbidden, as in most containers: the kernel allows
#: none in a chroot (user_namespaces(7)).
NO_NAMESPACES = (
    "unshare", "--mount",
    "sh", "-c", 'mount --rbind / /mnt && exec /usr/sbin/chroot /mnt "$@"', "sh",
)  # fmt: skip
#: root in a container.
LESSER_ROOT = ("setpriv", "--bounding-set=-sys_admin")
#: Where systemd never was.
NO_RUN_PCSCD = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o mode=755 run /run && exec "$@"',
    "sh",
)


@pytest.fixture
def user() -> Iterator[User]:
    """An ordinary user."""
    with temporary_user(os.geteuid() or NOBODY) as somebody:
        yield somebody


@pytest.fixture(params=["user", pytest.param("root", marks=as_root)])
def anybody(request: pytest.FixtureRequest) -> Iterator[User]:
    """An ordinary user, and root."""
    with temporary_user(0 if request.param == "root" else os.geteuid() or NOBODY) as somebody:
        yield somebody


@pytest.fixture(scope="module")
def public_database(database: Database) -> Iterator[str]:
    """The seed's certificates where every user can read them."""
    directory = Path(f"/tmp/run-nss-{os.getpid()}")
    shutil.copytree(database.directory, directory)
    for path in (directory, *directory.iterdir()):
        path.chmod(0o755)
    (directory / "password").write_text(f"{PIN}\n")
    yield str(directory)
    shutil.rmtree(directory)


# -- what it is for --------------------------------------------------------------------------------


def test_opensc_signs_with_a_card_from_an_nss_database(anybody: User, public_database: str) -> None:
    said = anybody.say(
        "run", "--certs", "cert1,cert2,cert3", "--db", f"sql:{public_database}",
        "--password-file", f"{public_database}/password", "--",
        "pkcs11-tool", "--module", OPENSC_MODULE, "--test", "--login", "--pin", PIN,
    )  # fmt: skip
    assert said.endswith("No errors\n")


def test_a_card_without_any_certificates_at_hand(user: User) -> None:
    said = user.say("run", "--generate", "opensc-tool", "--list-readers")
    assert re.search(rf"^0 +Yes +{CARD}$", said, re.MULTILINE)


def test_a_piv_card_of_an_authority(user: User) -> None:
    ca, cert = user.home / "ca.pem", user.home / "cert.pem"
    script = (
        f"pkcs11-tool --module {OPENSC_MODULE} --test --login --pin {PIN} &&"
        f" pkcs15-tool --read-certificate 01 >{cert} && openssl verify -CAfile {ca} {cert}"
    )
    card = ("--generate", "--card", "piv", "--algorithm", "p384")
    issued = ("--ca", str(ca), "--user", "me@EXAMPLE.TEST")
    said = user.say("run", *card, *issued, "--", "sh", "-c", script)
    assert "No errors\n" in said and said.endswith("cert.pem: OK\n")


@pytest.mark.parametrize("between", [(), ("--pcscd",)])
def test_a_piv_card_as_it_is_issued(user: User, between: tuple[str, ...]) -> None:
    """Its answer to reset, T=0 first and T=1, is in OpenSC's table."""
    script = f"opensc-tool --atr && pkcs11-tool --module {OPENSC_MODULE} --test --login --pin {PIN}"
    card = ("--generate", "--card", "piv-only-2025")
    said = user.say("run", *between, *card, "--", "sh", "-c", script)
    assert said.startswith("3b:d8:18:00:80:b1:fe:45:1f:07:80:31:c1:64:08:06:92:0f:d5\n")
    assert "No errors\n" in said
    said = user.say("run", *between, "--card", "piv-only-2025", "--", "vccidctl", "card", "info")
    assert "3B D8 18 00 80 B1" in said


def test_a_piv_card_with_a_face(user: User) -> None:
    """Printed information and picture are read after the PIN."""
    face, read = user.home / "face.jpg", user.home / "read"
    face.write_bytes(JPEG)
    script = (
        f"for id in 0x5fc109 0x5fc108; do yubico-piv-tool -r vccid -a verify-pin -P {PIN}"
        f" -a read-object --id $id -f binary >>{read} || exit; done; cat {read} | od -An -tx1 -v"
    )
    objects = ("--printed-information", "--facial-image", str(face))
    said = user.say("run", "--generate", "--card", "piv", *objects, "--", "sh", "-c", script)
    found = bytes.fromhex("".join(line for line in said.split("\n") if line.startswith(" ")))
    assert b"\x01\x05cert1\x02\x04NONE" in found
    assert b"FAC\x00010\x00" in found and JPEG in found
    face.write_bytes(b"GIF89a")
    done = user.run("run", "--card", "piv", *objects, "--", "true")
    assert done.returncode == 125 and "neither JPEG nor JPEG 2000" in done.stderr


@pytest.mark.parametrize("between", [(), ("--pcscd",)])
def test_a_reader_and_a_card_that_look_as_one_says(user: User, between: tuple[str, ...]) -> None:
    """Also a class byte that no application knows: 6E00 (ISO/IEC 7816-4, 5.6)."""
    atr = "3B:FD:13:00:00:81:31:FE:15:80:73:C0:21:C0:57:59:75:62:69:4B:65:79:40"
    script = "opensc-tool -l; opensc-tool --atr; opensc-tool -s A0A40000023F00"
    look = ("--reader-name", "Virtual PCD", "--atr", atr.replace(":", ""))
    serial = ("--serial", "11223344-5566-4788-99aa-bbccddeeff00")
    said = user.say("run", *between, "--card", "piv", *look, *serial, "--", "sh", "-c",
                    f"{script}; vccidctl card info")  # fmt: skip
    assert re.search(r"^0 +Yes +Virtual PCD 00 00$", said, re.MULTILINE)
    assert atr.lower() in said
    assert "SW1=0x6E, SW2=0x00" in said
    assert "112233445566478899aabbccddeeff00" in said


@pytest.mark.parametrize("between", [(), ("--pcscd",)])
def test_a_contactless_card_with_secure_messaging(user: User, between: tuple[str, ...]) -> None:
    card = ("--generate", "--card", "piv", "--secure-messaging", "cs2", "--contactless")
    script = (
        "opensc-tool --atr; vccidctl card info;"
        " opensc-tool -s 00:A4:04:00:05:A0:00:00:03:08:00 -s 00:CB:3F:FF:05:5C:03:5F:C1:05:00"
    )
    said = user.say("run", *between, *card, "--", "sh", "-c", script)
    assert "3b:87:80:01:80:31:c1:73:c0:21:c0:24" in said
    assert re.search(r"^pairing code: +[0-9]{8}$", said, re.MULTILINE)
    assert "AC 06 80 01 27 06 01 00" in said
    assert said.rstrip().endswith("(SW1=0x69, SW2=0x82)"), "not without pairing"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--atr", "3BFD13000081", "ends before TD2"),
        ("--atr", "3B00", "a PIV card speaks T=1"),
        ("--reader-name", 'a"b', "without double quotes"),
        ("--serial", "12", "32 hexadecimal digits"),
    ],
)
def test_a_look_that_cannot_be(user: User, option: str, value: str, message: str) -> None:
    done = user.run("run", "--card", "piv", option, value, "--", "true")
    assert done.returncode == 125 and message in done.stderr


def test_vccidctl_finds_the_private_daemon(user: User) -> None:
    script = "vccidctl reader list && vccidctl remove --wait >/dev/null && opensc-tool -l"
    said = user.say("run", "--generate", "--readers", "2", "--", "sh", "-c", script)
    assert re.findall(r"^(vccid\d) +(?:[0-9a-f]{28}|empty) ", said, re.MULTILINE) == [
        "vccid0",
        "vccid1",
    ]
    assert re.findall(r"^\d +(\w+) +vccid", said, re.MULTILINE) == ["No", "No"]


def test_the_command_has_our_standard_streams_and_home(user: User) -> None:
    said = user.say("run", "--", "sh", "-c", 'cat; echo "$HOME"; pwd', input="words\n")
    assert said == f"words\n{user.home}\n{user.home}\n"


def test_a_password_from_standard_input_leaves_the_rest(user: User, public_database: str) -> None:
    said = user.say(
        "run", "--certs", "cert1", "--db", public_database, "--password-file", "-", "--", "cat",
        input=f"{PIN}\nthe command's own\n",
    )  # fmt: skip
    assert said == "the command's own\n"


def test_side_by_side_and_one_within_another(user: User) -> None:
    where = ["sh", "-c", "echo $PCSCLITE_CSOCK_NAME; opensc-tool -l; exec vccidctl reader list"]
    inner = ["vccid", "run", "--readers", "3", "--", *where]
    others = [user.start("run", "--", *inner) for _ in range(2)]
    with ended(others[0]), ended(others[1]):
        said = [process.communicate(timeout=60)[0] for process in others]
    for text in said:
        assert re.findall(r"^(vccid\d) +empty", text, re.MULTILINE) == [
            "vccid0",
            "vccid1",
            "vccid2",
        ]
        assert len(re.findall(r"^\d +No +vccid", text, re.MULTILINE)) == 3
    assert said[0].splitlines()[0] != said[1].splitlines()[0]
    user.wait_for_nothing_left()


def test_the_daemons_options_stand_before_run(user: User, public_database: str) -> None:
    settings = user.home / "conf"
    settings.mkdir()
    (settings / "vccid.toml").write_text("[reader.vccid0]\npin_pad = true\n[reader.desk]\n")
    os.chown(settings, user.uid, user.uid)
    options = ["--configuration-directory", "conf", "--state-directory", "state"]
    options += ["--certificates-database", public_database]
    card = ["--certs", "cert1", "--password-file", f"{public_database}/password"]
    wrong = ["pkcs15-tool", "--verify-pin", "--pin", "999999"]
    user.run(*options, "run", *card, "--log", "log", "--", *wrong)
    for again in ([], card):
        script = "vccidctl card info; opensc-tool -l"
        said = user.say(*options, "run", *again, "--", "sh", "-c", script)
        assert "2 left" in said, "the card of the first run, and its wrong PIN"
        assert re.search(r"^1 +Yes +PIN pad +vccid vccid0", said, re.MULTILINE)
        assert re.search(r"^0 +No +vccid desk", said, re.MULTILINE)
    assert "card-inserted" in (user.home / "log").read_text()


def test_a_service_managers_variables_are_not_for_the_daemon(user: User) -> None:
    env = {"RUNTIME_DIRECTORY": "/nonexistent", "NOTIFY_SOCKET": "/nonexistent", "LISTEN_FDS": "3"}
    assert user.run("run", "--", "true", env=env).returncode == 0


@pytest.mark.parametrize("name", ["a b", "x" * 80])
def test_a_folder_for_temporary_files_that_pcscd_cannot_use(user: User, name: str) -> None:
    folder = user.home / name
    folder.mkdir()
    os.chown(folder, user.uid, user.uid)
    done = user.run("run", "--pcscd", "opensc-tool", "--list-readers", env={"TMPDIR": str(folder)})
    assert CARD in done.stdout, done.stderr
    assert list(folder.iterdir()) == []


# -- where there is little to stand on -------------------------------------------------------------


@as_root
@pytest.mark.parametrize(
    "wrapper", [NO_NAMESPACES, NO_RUN_PCSCD], ids=["no-namespaces", "no-run-pcscd"]
)
def test_it_takes_either_namespaces_or_a_folder(user: User, wrapper: Sequence[str]) -> None:
    if wrapper is NO_RUN_PCSCD:
        made = subprocess.run([*BECOME_NOBODY, "unshare", "--user", "true"], capture_output=True)
        if made.returncode != 0:
            pytest.skip(f"a user can make no namespace here, as in a chroot: {made.stderr!r}")
    done = user.run("run", "--pcscd", "opensc-tool", "--list-readers", wrapper=wrapper)
    assert CARD in done.stdout, done.stderr


@as_root
def test_the_root_of_a_container_makes_the_folder() -> None:
    with temporary_user(0) as root:
        wrapper = (*NO_RUN_PCSCD, *LESSER_ROOT)
        done = root.run("run", "--pcscd", "opensc-tool", "--list-readers", wrapper=wrapper)
        assert CARD in done.stdout, done.stderr


@as_root
def test_without_both_it_says_what_to_do(user: User) -> None:
    done = user.run("run", "--pcscd", "true", wrapper=(*NO_NAMESPACES, *NO_RUN_PCSCD))
    assert done.returncode == 125
    assert "cannot create /run/pcscd: Permission denied" in done.stderr, "pcscd's own words"
    assert "as root: mkdir /run/pcscd" in done.stderr


@as_root
def test_the_systems_pcscd_keeps_its_pid_file() -> None:
    with temporary_user(0) as root:
        script = (
            "mkdir -p /run/pcscd && mount -t tmpfs run /run/pcscd && echo 1 >/run/pcscd/pcscd.pid"
            ' && "$@" && cat /run/pcscd/pcscd.pid'
        )
        wrapper = ("unshare", "--mount", "sh", "-c", script, "sh")
        assert root.run("run", "--pcscd", "true", wrapper=wrapper).stdout == "1\n"


@as_root
def test_without_any_of_it_the_daemon_serves(user: User) -> None:
    """No pcscd, no /run/pcscd, no namespaces, and nothing to be written but /tmp."""
    hidden = (
        "mount --bind /dev/null /usr/sbin/pcscd && mount --bind /tmp /tmp &&"
        ' mount -o remount,ro,bind / && exec "$@"'
    )
    wrapper = (*NO_NAMESPACES, *NO_RUN_PCSCD, "sh", "-c", hidden, "sh")
    script = f"pkcs11-tool --module {OPENSC_MODULE} --test --login --pin 123456"
    done = user.run("run", "--generate", "--", *script.split(), wrapper=wrapper)
    assert done.stdout.splitlines()[-1] == "No errors", done.stderr


@as_root
def test_a_command_that_becomes_another_user_is_served_where_everybody_may() -> None:
    script = f"{' '.join(BECOME_NOBODY)} opensc-tool --list-readers"
    with temporary_user(0) as root:
        closed = root.run("run", "--generate", "--", "sh", "-c", script)
        assert CARD not in closed.stdout
        opened = root.run("--pcsc-everyone=true", "run", "--generate", "--", "sh", "-c", script)
        assert CARD in opened.stdout, opened.stderr


def test_opensc_shows_more_than_four_readers(user: User) -> None:
    slots = f"pkcs11-tool --module {OPENSC_MODULE} --list-slots"
    shown = user.say("run", "--readers", "6", "--generate", "--", *slots.split())
    assert "vccid vccid5 05 00" in shown
    script = ("run", "--readers", "6", "--", "sh", "-c", "echo $OPENSC_CONF")
    assert user.run(*script, env={"OPENSC_CONF": "/own"}).stdout == "/own\n"


@as_root
def test_without_pcscd_it_says_which_package(user: User) -> None:
    hidden = 'mount --bind /dev/null /usr/sbin/pcscd && exec "$@"'
    done = user.run(
        "run", "--pcscd", "true", wrapper=("unshare", "--mount", "sh", "-c", hidden, "sh")
    )
    assert (done.returncode, "apt install pcscd" in done.stderr) == (125, True)


def test_a_pcscd_that_fails_is_quoted(user: User) -> None:
    fake = user.home / "pcscd"
    fake.write_text("#!/bin/sh\necho no readers today\nexit 1\n")
    fake.chmod(0o755)
    done = user.run("run", "--pcscd", "true", env={"PATH": f"{user.home}:{user.env['PATH']}"})
    assert done.returncode == 125
    assert "| no readers today" in done.stderr
    assert "pcscd ended at once" in done.stderr


def test_a_card_that_cannot_be_made_is_told_as_vccidctl_does(user: User) -> None:
    done = user.run("run", "--certs", "/nonexistent.pem", "--", "true")
    assert done.returncode == 125
    assert "vccid: certificate file /nonexistent.pem does not exist" in done.stderr


def test_unfit_settings_are_told_by_the_daemon(user: User) -> None:
    (user.home / "vccid.toml").write_text("nonsense = 1\n")
    done = user.run("--configuration-directory", ".", "run", "true")
    assert done.returncode == 125
    assert "vccid.toml:1: unknown" in done.stderr


def test_more_readers_than_a_pcscd_takes(user: User) -> None:
    (user.home / "vccid.toml").write_text("".join(f"[reader.r{n}]\n" for n in range(16)))
    done = user.run("--configuration-directory", ".", "run", "--pcscd", "true")
    assert (done.returncode, "17 readers" in done.stderr) == (125, True)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "nosuch"], 127, "nosuch is not to be found"),
        (["run", "/etc/passwd"], 126, "/etc/passwd cannot be run"),
        (["run", "/tmp"], 126, "/tmp cannot be run"),
        (["run", "--nosuch", "true"], 125, "No such option: --nosuch"),
        (["run"], 125, "Missing argument"),
        (["run", "--generate", "--certs", "a", "true"], 125, "--generate makes its own"),
        (["run", "--generate", "--blank", "true"], 125, "--generate makes its own"),
        (["run", "--blank", "--algorithm", "p256", "true"], 125, "go with --generate"),
        (["run", "--generate", "--algorithm", "p256", "true"], 125, "--card piv takes all"),
        (["run", "--generate", "--user", "a@b", "true"], 125, "--user goes with --ca"),
        (["run", "--generate", "--ca", "a", "--user", "a", "true"], 125, "NAME@REALM"),
        (["run", "--certs", "a", "--reader", "b", "true"], 125, "not from two"),
        (["run", "--db", "a", "true"], 125, "say what the card is made from"),
        (["run", "--driver", "/nonexistent", "true"], 125, "does not exist"),
        (["run", "--log", "/nonexistent/log", "true"], 125, "/nonexistent/log"),
        (["--runtime-directory", "/proc/x", "run", "--pcscd", "true"], 125, "cannot be made"),
        (["--check", "run", "--pcscd", "true"], 2, "--check stands alone"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_runs(
    user: User, arguments: Sequence[str], code: int, said: str
) -> None:
    done = user.run(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# -- how it ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill $$", -15), ("kill -9 $$", -9)])
def test_it_ends_as_the_command_does(user: User, script: str, code: int) -> None:
    assert user.run("run", "--", "sh", "-c", script).returncode == code


def test_a_script_without_an_interpreter_is_the_shells(user: User) -> None:
    script = user.home / "script"
    script.write_text('echo "$0" "$@"; exit 3\n')
    script.chmod(0o755)
    done = user.run("run", "--", "./script", "a b", "c")
    assert (done.returncode, done.stdout) == (3, "./script a b c\n"), done.stderr


def test_started_by_one_who_ignores_the_end_of_children(user: User) -> None:
    ignoring = ("sh", "-c", 'trap "" CHLD; exec "$@"', "sh")
    assert user.run("run", "--", "sh", "-c", "exit 7", wrapper=ignoring).returncode == 7


def start_and_wait(user: User, script: str) -> subprocess.Popen[str]:
    """A run whose command has begun, and says so by a line."""
    process = user.start("run", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n", process.communicate()
    return process


def test_a_signal_is_passed_on_and_all_ends(anybody: User) -> None:
    trap = 'trap "echo got it; exit 9" TERM; echo begun; while :; do sleep 0.01; done'
    process = start_and_wait(anybody, trap)
    with ended(process):
        process.terminate()
        assert process.communicate(timeout=PATIENCE) == ("got it\n", "")
    assert process.returncode == 9
    assert anybody.left_over() == []


def test_killed_it_takes_everything_along(anybody: User) -> None:
    process = start_and_wait(anybody, "echo $$ >pid; echo begun; exec sleep 1000")
    with ended(process):
        process.kill()
        process.communicate(timeout=PATIENCE)
    anybody.wait_for_nothing_left()
    command = Path("/proc", (anybody.home / "pid").read_text().strip())
    wait_for(lambda: not (command / "exe").exists(), command.exists)


def test_told_to_end_before_the_command_ran(user: User) -> None:
    fifo = user.home / "never-written"
    os.mkfifo(fifo, 0o666)
    process = user.start("run", "--generate", "--atr", "t1", "--pin-file", fifo, "--", "true")
    with ended(process):
        writer = os.open(fifo, os.O_WRONLY)  # it reads the PIN now
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        os.close(writer)
    assert process.returncode == -signal.SIGTERM
    user.wait_for_nothing_left()


def test_told_to_end_while_daemon_and_pcscd_are_there(user: User) -> None:
    """They have not been waited for yet: that they are ready is no news of their end."""
    fifo, log = user.home / "never-read", user.home / "log"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    card = ("--pcscd", "--generate", "--card", "piv", "--ca", fifo)
    process = user.start("run", *card, "--log", log, "--", "true")
    with ended(process):
        wait_for(lambda: log.exists() and "host-attached" in log.read_text(), process.poll)
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    assert errors == "vccid: interrupted before the command began\n"
    assert process.returncode == -signal.SIGTERM
    user.wait_for_nothing_left()


def test_a_pcscd_that_dies_meanwhile_is_told(user: User) -> None:
    script = (
        'pid=$(pgrep -f "pcscd.*$(dirname "$(dirname "$VCCID_SOCKET")")/") && kill $pid &&'
        # Its end is told with the state Z; the link to its program goes a moment before.
        " while [ -e /proc/$pid ] && ! grep -q ') Z ' /proc/$pid/stat; do sleep 0.01; done"
    )
    done = user.run("run", "--pcscd", "--", "sh", "-c", script)
    assert done.stderr == "vccid: pcscd ended before the command did; see --log\n"


def test_an_interrupt_at_the_terminal_arrives_once(anybody: User) -> None:
    script = (
        'trap "echo interrupted; over=1" INT; echo begun;'
        ' until [ "$over" ]; do sleep 0.01; done; sleep 0.2; exit 3'
    )
    child, terminal = pty.fork()
    if not child:
        os.chdir(anybody.home)
        become = [] if anybody.uid == os.geteuid() else BECOME_NOBODY
        argv = [*become, str(BIN / "vccid"), "run", "--", "sh", "-c", script]
        os.execvpe(argv[0], argv, anybody.env)
    said = b""
    while b"begun" not in said:
        said += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # EIO: everybody has left the terminal
        while more := os.read(terminal, 1024):
            said += more
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert said.count(b"interrupted") == 1
    anybody.wait_for_nothing_left()
