# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each program of ours with standard streams that are closed, or full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import BIN, PATIENCE, Daemon
from tests.peers.pem import make_pem
from tests.peers.user import NOBODY, User, temporary_user

SLEEP = Path(__file__).parents[2] / "systemd" / "vccid-sleep"
CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")
FULL = ">/dev/full 2>&1"


def redirected(streams: str, *argv: str | Path) -> list[str]:
    return ["sh", "-c", f'exec "$@" {streams}', "sh", *map(str, argv)]


def run(streams: str, *argv: str | Path, **how: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        redirected(streams, *argv),
        capture_output=True, text=True, timeout=PATIENCE, check=False, **how,
    )  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("streams") / "v") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pem(tmp_path_factory.mktemp("pem") / "id.pem")


@pytest.fixture
def user() -> Iterator[User]:
    with temporary_user(os.geteuid() or NOBODY) as somebody:
        yield somebody


# -- the daemon ------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [*CLOSED, FULL])
def test_the_daemon_serves_all_the_same(tmp_path: Path, streams: str) -> None:
    daemon = Daemon(tmp_path / "v")
    daemon.start(redirected(streams))
    try:
        assert daemon.reader()["card"] is None
        files = [os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)]
        assert not any(name.startswith(("socket:", "anon_inode:")) for name in files), files
        daemon.signal(signal.SIGHUP)
        daemon.wait_for(lambda: any("RELOADING" in word for word in daemon.new_notifications()))
    finally:
        assert daemon.stop() == 0


@pytest.mark.parametrize("streams", CLOSED)
def test_settings_are_checked_all_the_same(daemon: Daemon, streams: str) -> None:
    done = run(streams, *daemon.command, "--check", env=daemon.env)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("argument", ["--check", "--help", "--version"])
def test_what_cannot_be_printed_is_an_error(daemon: Daemon, argument: str) -> None:
    done = run(">/dev/full", *daemon.command, argument, env=daemon.env)
    assert done.returncode == 1
    assert done.stderr == (
        "vccid: standard output cannot be written: No space left on device\n"
        "  give it another place\n"
    )


def test_what_is_wrong_keeps_its_exit_code_when_nobody_is_told(daemon: Daemon) -> None:
    for streams in ("2>&-", "2>/dev/full", "<&- >&- 2>&-"):
        assert run(streams, *daemon.command, "--nonsense", env=daemon.env).returncode == 2
        assert run(streams, *daemon.command, env=daemon.env).returncode == 75


# -- vccidctl --------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", CLOSED)
def test_vccidctl_does_what_it_is_told(daemon: Daemon, pem: Path, streams: str) -> None:
    ctl = (BIN / "vccidctl", "--socket", daemon.control)
    for words in (["insert", "--certs", pem], ["status"], ["remove"]):
        done = run(streams, *ctl, *words)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert run(streams, *ctl, "remove").returncode == 1, "there is none"
    assert run(streams, BIN / "vccidctl", "--socket", "/nonexistent", "status").returncode == 3


@pytest.mark.parametrize("words", [["status"], ["--json", "status"], ["--help"]])
def test_vccidctl_says_that_it_could_not_print(daemon: Daemon, words: list[str]) -> None:
    done = run(">/dev/full", BIN / "vccidctl", "--socket", daemon.control, *words)
    assert done.returncode == 1
    assert "standard output cannot be written: No space left on device" in done.stderr
    assert "Exception" not in done.stderr
    assert run(">/dev/full 2>&1", BIN / "vccidctl", *words).returncode in (1, 3)


@pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK) or os.geteuid(), reason="mounts")
@pytest.mark.parametrize("streams", [*CLOSED, "2>/dev/full"])
def test_files_are_mounted_all_the_same(daemon: Daemon, tmp_path: Path, streams: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    assert (
        run(streams, BIN / "vccidctl", "--socket", daemon.control, "mount", folder).returncode == 0
    )
    try:
        assert (folder / "vccid0").is_dir()
    finally:
        subprocess.run(["fusermount3", "-u", folder], check=True, timeout=PATIENCE)


# -- vccid run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [*CLOSED, FULL])
def test_a_command_finds_its_streams_as_they_were(user: User, streams: str) -> None:
    """Those that are closed are closed for it too, and the reader is there."""
    script = "opensc-tool -l >readers 2>&1 </dev/null; ls /proc/$$/fd >fds; exit 0"
    done = user.run("run", "--", "bash", "-c", script, wrapper=redirected(streams))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "vccid0" in (user.home / "readers").read_text()
    gone = {"<&-": "0", ">&-": "1", "2>&-": "2"}
    open_ones = {name for name in (user.home / "fds").read_text().split() if name in "012"}
    assert open_ones == {*"012"} - {gone[word] for word in streams.split() if word in gone}


@pytest.mark.parametrize("streams", ["2>/dev/full", "<&- >&- 2>&-"])
def test_its_own_failure_keeps_its_exit_code(user: User, streams: str) -> None:
    wrapper = redirected(streams)
    for words, code in ((["--certs", "/nonexistent.pem", "true"], 125), (["nosuch"], 127)):
        done = user.run("run", *words, wrapper=wrapper)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


# -- vccid-sleep -----------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [*CLOSED, FULL])
def test_sleep_says_so_by_its_exit_code(tmp_path: Path, streams: str) -> None:
    env = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)}
    done = run(streams, sys.executable, SLEEP, "attach", env=env)
    assert (done.returncode, done.stderr) == (0, ""), "nothing was noted"
    assert run(streams, sys.executable, SLEEP, "nonsense", env=env).returncode == 1
