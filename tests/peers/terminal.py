# SPDX-License-Identifier: LGPL-2.1-or-later
"""vccidctl with somebody at its terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.peers.daemon import BIN, PATIENCE, Daemon


def wait_for_no_echo(terminal: int) -> None:
    """What is typed before echo is off is thrown away with it (getpass: TCSAFLUSH)."""
    deadline = time.monotonic() + PATIENCE
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def at_terminal(
    daemon: Daemon, answers: Mapping[str, str | Callable[[], str]], *arguments: str | Path
) -> tuple[int, str]:
    """Run vccidctl at a terminal and answer its questions; returns its exit code and output.

    An answer that is called for may have something happen first.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        command = [str(BIN / "vccidctl"), "--socket", str(daemon.control), *map(str, arguments)]
        os.execv(command[0], command)
    said = ""
    left = dict(answers)
    try:
        with contextlib.suppress(OSError):  # EIO: it has ended
            while data := os.read(terminal, 1000):
                said += data.decode()
                for question, answer in list(left.items()):
                    if question in said:
                        wait_for_no_echo(terminal)
                        answer = answer() if callable(answer) else answer
                        os.write(terminal, f"{answer}\n".encode())
                        del left[question]
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said
    finally:
        os.close(terminal)
