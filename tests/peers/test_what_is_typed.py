# SPDX-License-Identifier: LGPL-2.1-or-later
"""What users type at vccidctl, and where they type it: odd names, odd places, short systems."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import BIN, PATIENCE, Daemon, make_nss_database
from tests.peers.pem import make_pem

NOBODY = 65534
NO_BREAK_SPACE, EMOJI = "\u00a0", "\U0001f469\u200d\U0001f4bb"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("typed") / "v") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_pem(tmp_path_factory.mktemp("pem") / "id.pem").read_bytes()


@pytest.mark.parametrize("name", [f"my{NO_BREAK_SPACE}card", EMOJI, "U+2028 \u2028", "a:b"])
def test_a_file_may_have_any_name(daemon: Daemon, tmp_path: Path, pem: bytes, name: str) -> None:
    path = tmp_path / f"{name}.pem"
    path.write_bytes(pem)
    daemon.ctl("insert", "--certs", path)
    daemon.ctl("remove")


@pytest.mark.parametrize("name", [f"my{NO_BREAK_SPACE}database", EMOJI, "a:b"])
def test_so_may_an_nss_database(daemon: Daemon, tmp_path: Path, name: str) -> None:
    database = make_nss_database(tmp_path / name, ["cert1"])
    daemon.ctl("insert", "--certs", "cert1", "--db", database)
    daemon.ctl("remove")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (os.fsdecode(b"/tmp/caf\xe9.pem"), r"'/tmp/caf\udce9.pem' has bytes that are no UTF-8"),
        ("/tmp/two\nlines.pem", r"'/tmp/two\nlines.pem' has a line break"),
        ("/tmp/\x1b[2J.pem", "'/tmp/?[2J.pem' has a control character"),
    ],
)
def test_what_cannot_be_is_named(daemon: Daemon, path: str, told: str) -> None:
    done = daemon.run_ctl("insert", "--certs", path)
    assert done.returncode == 1
    assert done.stderr == (
        f"vccidctl: certificates: {told} in its name\n"
        "  rename it, or name a link to it that has none\n"
    )


@pytest.mark.parametrize("seconds", ["3601", "nan", "inf", "soon"])
def test_no_time_to_wait_is_a_wrong_command_line(daemon: Daemon, seconds: str) -> None:
    done = daemon.run_ctl("remove", f"--wait={seconds}")
    assert done.returncode == 2
    assert "Invalid value for '--wait'" in done.stderr


@pytest.mark.parametrize(
    "line",
    [["--json", "nonsense"], ["insert", "--card", "x", "--json"], ["status", "--x", "--json"]],
)
def test_a_wrong_command_line_in_json(daemon: Daemon, line: list[str]) -> None:
    done = daemon.run_ctl(*line)
    assert (done.returncode, done.stdout) == (2, "")
    told = json.loads(done.stderr)
    assert told.keys() == {"error", "message", "hint"}
    assert told["message"] and told["hint"].endswith("--help")


def test_a_number_behind_wait_is_seconds_or_a_reader_and_never_guessed(daemon: Daemon) -> None:
    for seconds in ("5", "1e3", ".5", "2."):
        done = daemon.run_ctl("insert", "--certs", "/nowhere.pem", "--wait", seconds)
        assert "/nowhere.pem does not exist" in done.stderr, "no reader of that name was meant"
    for name in ("5", "1e3"):
        daemon.ctl("reader", "add", name)
        done = daemon.run_ctl("remove", "--wait", name)
        assert done.returncode == 2
        assert f"write --wait={name}, or {name} --wait" in done.stderr
        for line in (["remove", name, "--wait"], ["remove", f"--wait={name}", name]):
            done = daemon.run_ctl(*line)
            assert (done.returncode, done.stderr) == (1, f"vccidctl: reader {name} holds no card\n")
        daemon.ctl("reader", "remove", name)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["--db", "/nowhere"], "database: does not go with the rest"),
        (["--atr", "t1"], "atr: does not go with the rest"),
        (["--in-memory"], "in_memory: does not go with the rest"),
        (["--reader", ""], "pcsc_reader: no name"),
        (["--certs", "a", "--in-memory"], "in_memory: does not go with the rest"),
    ],
)
def test_what_does_not_go_together_is_named(daemon: Daemon, line: list[str], told: str) -> None:
    done = daemon.run_ctl("insert", *line)
    assert done.returncode == 1
    message, hint = done.stderr.splitlines()
    assert message == f"vccidctl: {told}"
    assert "version" not in hint


def status_as_nobody(runtime: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "vccidctl"), "status"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        user=NOBODY, group=NOBODY, extra_groups=[],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@as_root
@pytest.mark.parametrize("kind", ["closed", "another's", "dead socket", "gone"])
def test_a_runtime_directory_of_no_use_hides_nothing(tmp_path: Path, kind: str) -> None:
    """After su or sudo -E it is another's; one's own may hold what a killed daemon left."""
    runtime = Path(f"/tmp/xdg-{os.getpid()}-{kind.replace(' ', '-')}")
    control = runtime / "vccid" / "control"
    if kind != "gone":
        control.parent.mkdir(parents=True)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            if kind != "gone":
                listening.bind(str(control))
                control.chmod(0o666)
            if kind == "another's":
                listening.listen()
            elif kind == "closed":
                runtime.chmod(0o700)
            elif kind == "dead socket":
                os.chown(runtime, NOBODY, NOBODY)
            done = status_as_nobody(runtime)
    finally:
        subprocess.run(["rm", "-rf", runtime], check=True)
    assert done.returncode in (0, 3, 4), done.stderr  # as the system's stands
    assert "Traceback" not in done.stderr
    assert str(runtime) not in done.stderr + done.stdout


def test_systemd_may_hand_over_several_sockets(tmp_path: Path) -> None:
    """By systemd's own tool: each is served, whatever it is called."""
    daemon = Daemon(tmp_path / "v")
    sockets = [tmp_path / "one", tmp_path / "two"]
    listen = [f"--listen={path}" for path in sockets]
    daemon.launch(["systemd-socket-activate", *listen, "--fdname=control:mine"])
    try:
        daemon.wait_for(lambda: all(path.exists() for path in sockets))
        for path in reversed(sockets):
            asked = [str(BIN / "vccidctl"), "--socket", str(path), "--json", "status"]
            done = subprocess.run(
                asked, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            assert json.loads(done.stdout)["pid"] == daemon.pid, done
    finally:
        daemon.stop()


def test_a_wrong_number_of_sockets_closes_nothing(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "v")
    daemon.launch(["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=7 exec "$@"', "sh"])
    assert daemon.wait() == 78
    assert "LISTEN_FDS promises 7 sockets, and file descriptor 3 is none" in daemon.printed()


@pytest.mark.parametrize("name", ["control", "lock", "vccid0.ifd"])
def test_a_users_file_in_the_runtime_directory_stays(tmp_path: Path, name: str) -> None:
    daemon = Daemon(tmp_path / "v")
    file = daemon.runtime / name
    file.write_text("precious")
    daemon.launch()
    assert daemon.wait() == 78
    assert f"{file} is in the way" in daemon.printed()
    assert file.read_text() == "precious"


@as_root
def test_without_a_thread_each_call_is_answered_and_half_done_is_none(pem: bytes) -> None:
    """A limit on processes, which counts threads too, of a user who has just this one."""
    user = 54321
    directory = Path(f"/tmp/threads-{os.getpid()}")
    directory.mkdir()
    try:
        file = directory / "id.pem"
        file.write_bytes(pem)
        daemon = Daemon(directory / "v", user=user)
        daemon.start(["prlimit", "--nproc=1"])
        try:
            for line in (["insert", "--certs", str(file)], ["reader", "add", "lab"]):
                done = daemon.run_ctl(*line)
                assert done.returncode == 1, done.stderr
                assert "no thread can be started" in done.stderr
            readers = daemon.ctl_json("reader", "list")["readers"]
            assert [(reader["name"], reader["card"]) for reader in readers] == [("vccid0", None)]
            attached = daemon.run_ctl("attach", "pty")
            assert attached.returncode == 0
            assert attached.stderr.startswith("warning: it will not be attached after a restart")
            # A name is looked up in a thread: nothing may abort for want of one.
            assert daemon.run_ctl("attach", "vsc", "localhost:9").returncode == 0
            listening = daemon.run_ctl("attach", "usbredir", "--listen", "localhost:9")
            assert listening.returncode == 1
            assert "no thread can be started" in listening.stderr
        finally:
            assert daemon.stop() == 0
    finally:
        subprocess.run(["rm", "-rf", directory], check=True)
