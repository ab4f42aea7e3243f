# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vccid run --detach` and `vccid stop`: a card for many steps, which leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import BIN
from tests.peers.user import BECOME_NOBODY, NOBODY, User, temporary_user, wait_for

CARD = "vccid vccid0 00 00"


@pytest.fixture
def user() -> Iterator[User]:
    """An ordinary user, with nothing left of what it began."""
    with temporary_user(os.geteuid() or NOBODY) as somebody:
        yield somebody
        somebody.wait_for_nothing_left()


def shell(user: User, script: str) -> subprocess.CompletedProcess[str]:
    """A script of that user's, to its end; what it detached goes on."""
    becoming = [] if user.uid == os.geteuid() else BECOME_NOBODY
    return subprocess.run(
        [*becoming, "sh", "-c", script],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=user.home, env=user.env,
        timeout=60, check=False,
    )  # fmt: skip


def keeper_of(directory: Path) -> int:
    """The process that keeps a detached run: the parent of its daemon, who has the lock."""
    daemon = (directory / "run" / "lock").read_text().strip()
    stat = Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()
    return int(stat[1])


def test_steps_of_a_shell_share_a_card(user: User) -> None:
    done = shell(
        user,
        'eval "$(vccid run --generate --detach)" && opensc-tool -l && vccidctl remove'
        " && opensc-tool -l; vccid stop && ls $VCCID_RUN",
    )
    assert done.stdout.count(CARD) == 2
    assert "Yes" in done.stdout and "No " in done.stdout
    assert "No such file" in done.stderr, "the folder has gone"


def test_the_variables_as_json_and_for_github(user: User) -> None:
    told = json.loads(shell(user, "vccid run --detach --json").stdout)
    assert set(told) == {"VCCID_RUN", "VCCID_SOCKET", "PCSCLITE_CSOCK_NAME"}
    done = shell(
        user, f"GITHUB_ENV=env vccid run --detach --github; vccid stop {told['VCCID_RUN']}"
    )
    assert (done.returncode, done.stdout) == (0, "")
    lines = (user.home / "env").read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines)
    assert shell(user, f"vccid stop {told['VCCID_RUN']}").returncode == 0


def test_it_ends_with_a_process(user: User) -> None:
    done = shell(user, 'eval "$(vccid run --detach --end-with $$)"; opensc-tool -l')
    assert CARD in done.stdout
    user.wait_for_nothing_left()


@pytest.mark.parametrize("who", ["keeper", "daemon"])
def test_a_part_that_is_killed_takes_the_rest_along(user: User, who: str) -> None:
    told = json.loads(shell(user, "vccid run --detach --json").stdout)
    directory = Path(told["VCCID_RUN"])
    keeper = keeper_of(directory)
    if who == "keeper":
        os.kill(keeper, signal.SIGKILL)
        wait_for(lambda: not Path(told["VCCID_SOCKET"]).exists(), lambda: "the daemon stays")
        assert shell(user, f"vccid stop {directory}").returncode == 0
    else:
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
    user.wait_for_nothing_left()


def test_nobody_who_can_be_told_leaves_nothing(user: User) -> None:
    done = shell(user, "vccid run --detach >/dev/full")
    assert (done.returncode, done.stdout) == (125, "")
    assert "No space left on device" in done.stderr
    closed = shell(user, "vccid run --detach >&-")
    assert (closed.returncode, user.left_over()) == (125, [])
    assert "standard output is closed" in closed.stderr


def test_a_name_that_would_forge_a_variable_is_not_told(user: User) -> None:
    where = "--runtime-directory 'a\nPATH=b'"
    done = shell(user, f"GITHUB_ENV=env vccid {where} run --detach --github")
    assert (done.returncode, user.left_over()) == (125, [])
    assert "a line break" in done.stderr
    assert not (user.home / "env").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run --detach true", "--detach runs no command"),
        ("run --json true", "go with --detach"),
        ("run", "Missing argument"),
        ("run --detach --end-with 4194304", "--end-with 4194304: No such process"),
        ("run --detach --github", "GITHUB_ENV is not set"),
        ("stop", "VCCID_RUN is not set"),
        ("stop /tmp", "/tmp is no folder of vccid run --detach"),
        ("stop /nonexistent", "/nonexistent is no folder"),
    ],
)
def test_what_it_refuses(user: User, arguments: str, said: str) -> None:
    done = shell(user, f"unset GITHUB_ENV VCCID_RUN; {BIN}/vccid {arguments}")
    assert done.returncode == 125
    assert said in done.stderr
