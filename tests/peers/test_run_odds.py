# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vccid run` where things are not as they should be: full, taken, oddly named, killed."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.key_material import certificate, der, rsa_key
from tests.odd_certificates import pem
from tests.peers.daemon import BIN, PATIENCE, Daemon
from tests.peers.test_run import CARD, NO_RUN_PCSCD
from tests.peers.user import BECOME_NOBODY, NOBODY, User, ended, temporary_user, wait_for

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and becomes another user")

#: More files than select(2) can look at.
MANY_FILES = (
    "bash",
    "-c",
    'ulimit -n 4096; for n in {3..1110}; do eval "exec $n</dev/null"; done; exec "$@"',
    "bash",
)


@pytest.fixture
def user() -> Iterator[User]:
    with temporary_user(os.geteuid() or NOBODY) as somebody:
        yield somebody


# -- the keeper ------------------------------------------------------------------------------------


def keeper_of(process: subprocess.Popen[str]) -> int:
    """Its first child."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: children.read_text() != "", process.poll)
    return int(children.read_text().split()[0])


def test_with_more_files_than_select_takes(user: User) -> None:
    done = user.run("run", "--generate", "opensc-tool", "-l", wrapper=MANY_FILES)
    assert CARD in done.stdout, done.stderr


def test_what_was_inherited_is_not_kept_open(user: User) -> None:
    """Somebody may wait for the end of a pipe that only the command should hold."""
    reading, writing = os.pipe()
    script = f"exec {writing}>&-; echo begun; read line"
    process = subprocess.Popen(
        ["vccid", "run", "--", "bash", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=user.env, pass_fds=[writing],
    )  # fmt: skip
    os.close(writing)
    with ended(process), os.fdopen(reading):
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        holders = [
            fd
            for child in Path("/proc").glob("[0-9]*")
            if int(child.name) not in (os.getpid(), process.pid)
            for fd in _files(child)
            if fd == f"pipe:[{os.fstat(reading).st_ino}]"
        ]
        process.communicate("\n", timeout=PATIENCE)
    assert holders == []
    user.wait_for_nothing_left()


def _files(process: Path) -> list[str]:
    try:
        return [os.readlink(fd) for fd in (process / "fd").iterdir()]
    except OSError:
        return []


@pytest.mark.parametrize("after", [0, 0.1, 0.3])
def test_a_keeper_that_is_killed_is_told(user: User, after: float) -> None:
    """While it starts the command does not run; after that it is told, once."""
    process = user.start("run", "--", "sh", "-c", "echo begun; read line; exit 7",
                         stdin=subprocess.PIPE)  # fmt: skip
    with ended(process):
        keeper = keeper_of(process)
        time.sleep(after)
        os.kill(keeper, signal.SIGKILL)
        out, errors = process.communicate("\n", timeout=PATIENCE)
    assert (process.returncode, out) in [(125, ""), (7, "begun\n")], errors
    assert errors.count("what keeps daemon and pcscd") == 1, errors
    user.wait_for_nothing_left()


def test_a_keeper_that_is_killed_while_a_card_is_made(user: User) -> None:
    process = user.start("run", "--generate", "--log", "log", "--", "echo", "begun")
    with ended(process):
        keeper = keeper_of(process)
        log = user.home / "log"
        wait_for(lambda: log.exists() and "ready" in log.read_text(), process.poll)
        os.kill(keeper, signal.SIGKILL)
        out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) in [(125, ""), (0, "begun\n")], errors
    assert errors.count("what keeps daemon and pcscd") == 1, errors
    user.wait_for_nothing_left()


def test_a_keeper_that_is_stopped_hears_of_the_end(user: User) -> None:
    process = user.start("run", "--", "sh", "-c", "read line; exit 7", stdin=subprocess.PIPE)
    with ended(process):
        os.kill(keeper_of(process), signal.SIGSTOP)
        process.terminate()  # before the command, or during it
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM, errors
    user.wait_for_nothing_left()


# -- the command -----------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("closed/program", 126, "closed/program cannot be run: Permission denied"),
        ("./" + "x" * 300, 126, "x cannot be run: File name too long"),
        ("/etc/passwd/x", 127, "/etc/passwd/x is not to be found"),
        ("", 127, "'' is not to be found"),
        ("./a b", 127, "'./a b' is not to be found"),
    ],
)
def test_no_such_command(command: str, code: int, said: str) -> None:
    """As env(1) has it."""
    with temporary_user(NOBODY) as nobody:
        (nobody.home / "closed").mkdir(mode=0)
        done = nobody.run("run", "--", command)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


@as_root
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--certs", "closed/a.pem"], "closed cannot be entered by user nobody (mode 0000"),
        (["--certs", "key.pem"], "key.key cannot be read by user nobody (mode 0000"),
        (["--certs", "a", "--db", "closed/nss"], "closed cannot be entered by user nobody"),
        (["--certs", "a", "--pin-file", "closed/pin"], "closed/pin cannot be read: Permission"),
        (["--generate", "--ca", "closed/ca.pem"], "closed/ca.pem cannot be written: Permission"),
        (["--log", "closed/log"], "--log closed/log: Permission denied"),
    ],
)
def test_a_file_that_is_closed_to_us(options: list[str], said: str) -> None:
    """On Python 3.11 pathlib raises where 3.13 says that there is no such file."""
    with temporary_user(NOBODY) as nobody:
        (nobody.home / "closed").mkdir(mode=0)
        (nobody.home / "key.pem").write_bytes(pem(der(certificate("a", rsa_key().public_key()))))
        (nobody.home / "key.key").touch(mode=0)
        done = nobody.run("run", *options, "--", "echo", "begun")
    assert (done.returncode, done.stdout) == (125, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@as_root
def test_a_run_that_cannot_be_looked_at_is_not_stopped() -> None:
    with temporary_user(NOBODY) as nobody:
        (nobody.home / "closed").mkdir(mode=0)
        done = nobody.run("stop", "closed/vccid-run.abc")
    assert (done.returncode, done.stdout) == (125, "")
    assert "closed/vccid-run.abc cannot be reached: Permission denied" in done.stderr


# -- directories -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b,ü", "#'\"$(id)\n\\", "x" * 50])
def test_a_runtime_directory_of_any_name(user: User, name: str) -> None:
    done = user.run("--runtime-directory", name, "run", "opensc-tool", "--list-readers")
    assert "vccid vccid0" in done.stdout, done.stderr


def test_a_name_that_cannot_be_told_is_refused(user: User) -> None:
    done = user.run("--runtime-directory", "a\udcff", "run", "echo", "begun")
    assert (done.returncode, done.stdout) == (125, "")
    assert r"a\xff has a name that is no UTF-8" in done.stderr


@as_root
def test_a_runtime_directory_below_run(user: User) -> None:
    """pcscd gets a /run of its own where there is no /run/pcscd."""
    place = ("sh", "-c", f'mkdir -m 700 /run/desk && chown {NOBODY} /run/desk && exec "$@"', "sh")
    script = "opensc-tool -l; echo $PCSCLITE_CSOCK_NAME"
    done = user.run(
        "--runtime-directory", "/run/desk/vccid",
        "run", "--pcscd", "--generate", "sh", "-c", script,
        wrapper=(*NO_RUN_PCSCD, *place), env={"TMPDIR": "/run/desk"},
    )  # fmt: skip
    assert CARD in done.stdout, done.stderr
    assert "/run/desk/vccid-run." in done.stdout


def test_one_directory_for_everything(user: User) -> None:
    options = [f"--{what}-directory=one" for what in ("runtime", "state", "configuration")]
    assert user.run(*options, "run", "vccidctl", "status").returncode == 0


def test_a_directory_that_a_daemon_uses_stays_its_own(user: User, tmp_path: Path) -> None:
    with Daemon(tmp_path / "v") as daemon:
        before = daemon.control.stat()
        with temporary_user(os.geteuid()) as same:
            done = same.run("--runtime-directory", daemon.runtime, "run", "echo", "begun")
        assert (done.returncode, done.stdout) == (125, "")
        assert f"another vccid (pid {daemon.pid})" in done.stderr
        assert daemon.control.stat() == before
        assert daemon.reader()["card"] is None


@as_root
def test_nobody_else_uses_the_card_though_the_directory_is_open() -> None:
    script = f"{' '.join(BECOME_NOBODY)} opensc-tool -l; ls -l $VCCID_SOCKET; opensc-tool -l"
    with temporary_user(0) as root:
        runtime = root.home / "run"
        runtime.mkdir(mode=0o755)
        done = root.run("--runtime-directory", runtime, "run", "--generate", "sh", "-c", script)
        assert done.stdout.count(CARD) == 1, "root's own opensc-tool"
        assert "srw-------" in done.stdout
        assert [path.name for path in runtime.iterdir()] == ["lock"]


# -- what it inherits ------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["0777", "0277", "0000"])
def test_a_umask_is_the_commands_and_not_ours(user: User, mask: str) -> None:
    """Nothing of ours is closed to ourselves, nor open to others."""
    script = (
        'umask; vccidctl card info | head -n 1; find "$TMPDIR" -mindepth 1 -perm /022 -type f,d'
    )
    wrapper = ("sh", "-c", f'umask {mask} && exec "$@"', "sh")
    between = ("--pcscd",) if mask == "0000" else ()
    done = user.run("run", "--generate", *between, "sh", "-c", script, wrapper=wrapper)
    assert (done.stdout.split(), done.stderr) == ([mask, "reader:", "vccid0"], "")


def test_blocked_signals_are_the_commands_and_not_ours(user: User) -> None:
    blocked = ("env", "--block-signal=TERM", "--block-signal=CHLD", "--block-signal=HUP")
    done = user.run("run", "grep", "SigBlk", "/proc/self/status", wrapper=blocked)
    assert done.stdout.split() == ["SigBlk:", "0000000000014001"]  # signal(7): 17, 15 and 1
    process = user.start("run", "sh", "-c", "echo begun; read line", stdin=subprocess.PIPE,
                         wrapper=blocked)  # fmt: skip
    with ended(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.kill()
    user.wait_for_nothing_left()


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"])
def test_the_log_goes_to_a_pipe(user: User, name: str) -> None:
    done = user.run("run", "--log", name, "--", "true")
    assert (done.returncode, "stopping" in done.stderr) == (0, True), done.stderr


def test_the_log_goes_to_a_fifo(user: User) -> None:
    fifo = user.home / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    alone = user.run("run", "--log", fifo, "--", "echo", "begun")
    assert (alone.returncode, alone.stdout) == (125, "")
    assert "nobody reads it" in alone.stderr
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(reader) as log:
        assert user.run("run", "--log", fifo, "--", "true").returncode == 0
        assert "stopping" in log.read()


def test_a_reader_of_the_log_that_leaves_takes_nothing_along(user: User) -> None:
    fifo = user.home / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    process = user.start("run", "--log", fifo, "--", "sh", "-c", "read line; opensc-tool -l",
                         stdin=subprocess.PIPE)  # fmt: skip
    with ended(process):
        assert process.stdin is not None
        select.select([reader], [], [], PATIENCE)
        os.close(reader)
        out, errors = process.communicate("\n", timeout=PATIENCE)
    assert "vccid0" in out, errors


def test_an_old_log_is_added_to_and_not_quoted(user: User) -> None:
    log = user.home / "log"
    log.write_text("long ago\n")
    os.chown(log, user.uid, user.uid)
    (user.home / "vccid.toml").write_text("nonsense = 1\n")
    done = user.run("--configuration-directory", ".", "run", "--log", log, "true")
    assert done.stderr.startswith("| vccid: "), done.stderr
    assert log.read_text().startswith("long ago\n")


# -- temporary folders -----------------------------------------------------------------------------


def mounted(script: str) -> tuple[str, ...]:
    return ("unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh")


@as_root
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("mount -t tmpfs -o ro x /var/tmp && mount -t tmpfs -o ro x $TMPDIR"
         " && mount -t tmpfs -o ro x /tmp", "/tmp: Read-only file system"),
        ("mount -t tmpfs -o ro x /var/tmp && mount -t tmpfs -o size=4k,mode=1777 x /tmp"
         " && echo >/tmp/all", "/tmp: No space left on device"),
    ],
)  # fmt: skip
def test_no_folder_can_be_had(script: str, said: str) -> None:
    with temporary_user(0) as root:
        wrapper = ("env", "--unset=XDG_RUNTIME_DIR", *mounted(script))
        process = subprocess.run(
            [*wrapper, "vccid", "run", "--", "echo", "begun"],
            env=root.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (process.returncode, process.stdout) == (125, "")
    assert said in process.stderr
    assert "TMPDIR=DIRECTORY vccid run" in process.stderr


@as_root
@pytest.mark.parametrize(
    "limits", [("size=8k",), ("size=16k",), ("size=20k",), ("nr_inodes=12", "--pcscd")]
)
def test_a_folder_that_is_too_small(limits: tuple[str, ...]) -> None:
    with temporary_user(0) as root:
        limit, *options = limits
        wrapper = mounted(f"mount -t tmpfs -o {limit} x $TMPDIR")
        done = root.run("run", *options, "--generate", "--", "echo", "begun", wrapper=wrapper)
        assert (done.returncode, done.stdout) == (125, "")
        assert f"{root.temporary}/vccid-run." in done.stderr
        assert "cannot be written: No space left on device" in done.stderr
        assert "TMPDIR=DIRECTORY vccid run" in done.stderr


# -- user namespaces, and the rest -----------------------------------------------------------------


@as_root
def test_as_the_root_of_a_user_namespace(user: User) -> None:
    """Which has no group but its own."""
    done = subprocess.run(
        [*BECOME_NOBODY, "unshare", "-r", "vccid", "run", "--generate", "opensc-tool", "-l"],
        env=user.env, cwd=user.home, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert CARD in done.stdout, done.stderr
    user.wait_for_nothing_left()


def test_no_process_can_be_started(user: User) -> None:
    limit = ("sh", "-c", 'ulimit -u 0 2>/dev/null || ulimit -p 0; exec "$@"', "sh")
    done = subprocess.run(
        [*BECOME_NOBODY, *limit, "vccid", "run", "--", "echo", "begun"]
        if os.geteuid() == 0 else [*limit, "vccid", "run", "--", "echo", "begun"],
        env=user.env, cwd=user.home, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (125, "")
    assert "Resource temporarily unavailable" in done.stderr
    assert user.left_over() == []


def test_few_files_may_be_open(user: User) -> None:
    done = user.run("run", "--", "echo", "begun", wrapper=("prlimit", "--nofile=8"))
    assert (done.returncode, done.stdout) == (125, "")
    assert "Too many open files" in done.stderr and "Traceback" not in done.stderr


def test_the_scratch_folder_is_closed_to_others(user: User) -> None:
    script = 'stat -c %a "$(dirname "$(dirname "$PCSCLITE_CSOCK_NAME")")"'
    assert int(user.say("run", "sh", "-c", script), 8) & (stat.S_IRWXG | stat.S_IRWXO) == 0


# -- programs apart --------------------------------------------------------------------------------

#: As PrivateTmp= of systemd.exec(5) has it.
OWN_TMP = ("unshare", "--mount", "sh", "-c",
           'mount -t tmpfs own /tmp && mount -t tmpfs own /var/tmp && exec "$@"', "sh")  # fmt: skip


@as_root
@pytest.mark.parametrize("away", [False, True], ids=["in /tmp", "elsewhere"])
def test_a_program_with_a_tmp_of_its_own(away: bool) -> None:
    """It finds the reader whose socket is elsewhere."""
    with tempfile.TemporaryDirectory(dir="/run" if away else "/tmp") as place:
        done = subprocess.run(
            [BIN / "vccid", "run", *OWN_TMP, "opensc-tool", "--list-readers"],
            env={**os.environ, "TMPDIR": place}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert ("vccid vccid0" in done.stdout) is away, done.stdout + done.stderr


def test_a_program_whose_environment_was_emptied_is_told_again(user: User) -> None:
    again = 'env -i PATH="$PATH" $1 opensc-tool --list-readers'
    for told, found in (("", False), ("PCSCLITE_CSOCK_NAME=$PCSCLITE_CSOCK_NAME", True)):
        done = user.run("run", "sh", "-c", again.replace("$1", told))
        assert ("vccid vccid0" in done.stdout) is found, done.stdout + done.stderr
