# SPDX-License-Identifier: LGPL-2.1-or-later
"""bash, zsh and fish complete both commands, with what the daemon knows where one answers."""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import BIN, PATIENCE, Daemon

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("v")) as running:
        running.ctl("reader", "add", "desk")
        yield running


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each shell's script for each command."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in SHELLS:
        for command in ("vccidctl", "vccid"):
            script = run("vccidctl", "completion", shell, command)
            (folder / f"{command}.{shell}").write_text(script)
    return folder


def environment(socket: str | Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{BIN}:/usr/bin:/bin", "VCCID_SOCKET": str(socket)}


def run(*argv: str | Path, socket: str | Path = "/nonexistent") -> str:
    """What a command printed, standard error too."""
    return subprocess.run(
        list(map(str, argv)), env=environment(socket), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


def in_bash(script: Path, line: str, socket: str | Path) -> list[str]:
    words = line.split(" ")
    function = f"_{words[0]}_completion"
    program = (
        f"source {script} && complete -p {words[0]} >/dev/null && "
        f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1} && "
        f"compopt() {{ :; }} && {function} {words[0]} && printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    return run("bash", "--norc", "-c", program, socket=socket).split()


def in_fish(script: Path, line: str, socket: str | Path) -> list[str]:
    program = f"source {script}; complete --do-complete {shlex.quote(line)}"
    shown = run("fish", "--no-config", "-c", program, socket=socket).splitlines()
    return [candidate.partition("\t")[0] for candidate in shown]


def in_zsh(script: Path, line: str, socket: str | Path) -> list[str]:
    """The last word of the line after TAB, at a terminal: zsh completes nowhere else."""
    child, terminal = pty.fork()
    if not child:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**environment(socket), "TERM": "dumb"})
    try:
        # The prompt in two pieces, lest it be found where zsh shows what is typed.
        begin = f"autoload -U compinit; compinit -D -u; . {script}; PS1='rea''dy '\n"
        os.write(terminal, begin.encode())
        read_until(terminal, b"\x1b[?2004h", after=b"ready ")  # zsh reads keys now
        os.write(terminal, line.encode() + b"\t")
        said = read_until(terminal, b" ", after=line.encode())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
    return said.decode().split()[-1:]


def read_until(terminal: int, end: bytes, after: bytes) -> bytes:
    """Read what a terminal shows up to `end`, which stands somewhere behind `after`."""
    said = b""
    while end not in said.partition(after)[2]:
        assert select.select([terminal], [], [], PATIENCE)[0], said
        said += os.read(terminal, 4096)
    return said


COMPLETE = {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "candidate"),
    [
        ("vccidctl det", "detach"),
        ("vccidctl attach usbr", "usbredir"),
        ("vccidctl reader remove de", "desk"),
        ("vccidctl attach usbip --reader de", "desk"),
        ("vccid ru", "run"),
        ("vccid run --gen", "--generate"),
        ("vccid run -- pkcs11-t", "pkcs11-tool"),
    ],
)
def test_what_can_be_meant_is_offered(
    shell: str, line: str, candidate: str, scripts: Path, daemon: Daemon
) -> None:
    script = scripts / f"{line.split()[0]}.{shell}"
    assert COMPLETE[shell](script, line, daemon.control) == [candidate]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_without_a_daemon_there_is_silence(shell: str, scripts: Path) -> None:
    assert COMPLETE[shell](scripts / f"vccidctl.{shell}", "vccidctl remove ", "/nonexistent") == []


def test_a_daemon_that_does_not_answer_is_not_waited_for(scripts: Path, daemon: Daemon) -> None:
    daemon.signal(signal.SIGSTOP)
    try:
        assert in_bash(scripts / "vccidctl.bash", "vccidctl remove ", daemon.control) == []
    finally:
        daemon.signal(signal.SIGCONT)
