# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vccid run` at a terminal: as a job of a shell, as the leader of a session, and hung up on."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import BIN, PATIENCE
from tests.peers.terminal import wait_for_no_echo
from tests.peers.user import BECOME_NOBODY, NOBODY, User, temporary_user, wait_for

VCCID = str(BIN / "vccid")
BASH = ("bash", "--norc", "--noprofile")


@pytest.fixture
def user() -> Iterator[User]:
    with temporary_user(os.geteuid() or NOBODY) as somebody:
        yield somebody


class Session:
    """A program at a terminal of its own, as the leader of the session."""

    def __init__(self, user: User, *argv: str) -> None:
        self.said = ""
        become = () if user.uid == os.geteuid() else BECOME_NOBODY
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.chdir(user.home)
            os.execvpe((*become, *argv)[0], (*become, *argv), {**user.env, "PS1": "outer> "})

    def wait_for(self, text: str) -> None:
        """Read until it says so, and forget that."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.said:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.terminal], [], [], left)[0], self.said
            self.said += os.read(self.terminal, 4096).decode(errors="replace")
        self.said = self.said.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def hang_up(self) -> None:
        os.close(self.terminal)
        self.terminal = -1

    def ended_with(self) -> int:
        """Wait for its end; a signal is negative."""
        with contextlib.suppress(OSError):  # EIO: everybody has left the terminal
            while self.terminal >= 0 and (more := os.read(self.terminal, 4096)):
                self.said += more.decode(errors="replace")
        deadline = time.monotonic() + PATIENCE
        while not (done := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < deadline, "it goes on for ever"
            time.sleep(0.01)
        self.pid = 0
        return os.waitstatus_to_exitcode(done[1])

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.terminal >= 0:
            os.close(self.terminal)


@contextlib.contextmanager
def session(user: User, *argv: str) -> Iterator[Session]:
    """Nothing is left behind when it is over."""
    with contextlib.closing(Session(user, *argv)) as there:
        yield there
    user.wait_for_nothing_left()


def test_a_terminal_that_hangs_up_ends_all(user: User) -> None:
    script = "echo $$ >pid; echo begun; sleep 1000"
    with session(user, VCCID, "run", "--", "sh", "-c", script) as there:
        there.wait_for("begun")
        there.hang_up()
        assert there.ended_with() == -signal.SIGHUP
    assert not Path("/proc", (user.home / "pid").read_text().strip()).exists()


def test_a_shell_hears_of_the_hangup(user: User) -> None:
    """Its own child is in a process group of its own, which it ends."""
    with session(user, VCCID, "run", "--", *BASH, "-i") as there:
        there.type("sh -c 'echo $$ >pid; echo be\"\"gun; exec sleep 1000'\n")
        there.wait_for("begun")
        there.hang_up()
        assert there.ended_with() == -signal.SIGHUP
    gone = Path("/proc", (user.home / "pid").read_text().strip())
    wait_for(lambda: not gone.exists(), lambda: gone)


def test_a_command_may_outlive_the_terminal(user: User) -> None:
    script = "trap '' HUP; echo begun; sleep 0.5; opensc-tool -l >readers"
    with session(user, VCCID, "run", "--", "sh", "-c", script) as there:
        there.wait_for("begun")
        there.hang_up()
        assert there.ended_with() == 0
    assert "vccid0" in (user.home / "readers").read_text()


def test_a_shell_that_suspends_itself_goes_on(user: User) -> None:
    """The inner shell has a process group of its own, and the terminal with it."""
    with session(user, *BASH, "-i") as there:
        there.wait_for("outer> ")
        there.type(f"{VCCID} run -- {' '.join(BASH)} -i\n")
        for again in range(2):
            there.type(f"echo in''ner {again}\n")
            there.wait_for(f"inner {again}")
            there.type("suspend\n")
            there.wait_for("Stopped")
            there.type("echo out''er; fg\n")
            there.wait_for("outer")
        there.type("opensc-tool -l; exit 5\n")
        there.wait_for("vccid0")
        there.type("echo status $?; exit\n")
        there.wait_for("status 5")
        assert there.ended_with() == 0


def test_a_shell_without_another_above_it_cannot_suspend(user: User) -> None:
    with session(user, VCCID, "run", "--", *BASH, "-i") as there:
        there.type("suspend\n")
        there.type("echo still th''ere; exit 3\n")
        there.wait_for("still there")
        assert there.ended_with() == 3


def test_it_is_stopped_from_the_keyboard_and_goes_on(user: User) -> None:
    (user.home / "echo.sh").write_text(
        "echo begun; while read line; do echo got $line; done; exit 4\n"
    )
    with session(user, *BASH, "-i") as there:
        there.type(f"{VCCID} run -- sh echo.sh\n")
        there.wait_for("begun")
        for again in range(3):
            there.type("\x1a")
            there.wait_for("Stopped")
            there.type("fg\n")
            there.wait_for("sh echo.sh")
            there.type(f"line {again}\n")
            there.wait_for(f"got line {again}")
        there.type("\x04")
        there.type("echo status $?; exit\n")
        there.wait_for("status 4")
        assert there.ended_with() == 0


def test_in_the_background_it_stops_when_the_command_reads(user: User) -> None:
    (user.home / "ask.sh").write_text("echo begun; read line; echo got $line\n")
    with session(user, *BASH, "-i") as there:
        there.type(f"{VCCID} run -- sh ask.sh\n")
        there.wait_for("begun")
        there.type("\x1a")
        there.wait_for("Stopped")
        there.type("bg; wait -n\n")
        there.wait_for("Stopped")
        there.type("fg\n")
        there.wait_for("sh ask.sh")
        there.type("words\n")
        there.wait_for("got words")
        there.type("exit\n")
        assert there.ended_with() == 0


def test_interrupted_at_its_question(user: User) -> None:
    with session(user, VCCID, "run", "--generate", "--ask-pin", "--", "true") as there:
        there.wait_for("PIN")
        wait_for_no_echo(there.terminal)
        there.type("\x03")
        there.wait_for("interrupted before the command began")
        assert there.ended_with() == -signal.SIGINT


def test_nothing_entered_at_its_question(user: User) -> None:
    with session(user, VCCID, "run", "--generate", "--ask-pin", "--", "true") as there:
        there.wait_for("PIN")
        wait_for_no_echo(there.terminal)
        there.type("\x04")
        there.wait_for("nothing was entered")
        assert there.ended_with() == 125
