# SPDX-License-Identifier: LGPL-2.1-or-later
"""The process that keeps a private daemon and pcscd for as long as `vccid run` lives.

It is apart so that everything ends and the scratch folder goes however `vccid run` ends, by
SIGKILL too: it then reads the end of a pipe that nobody else holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from vccid.ctl.client import Client
from vccid.daemon.socket_and_lock import make_socket
from vccid.errors import RunFailed, VccidError
from vccid.run import pcscd, process
from vccid.wire.varlink import Parameters

#: Seconds a server is given to leave, and pcscd to come to the readers.
PATIENCE: Final = 20.0

#: Lines of the log that are shown when something failed.
_TAIL: Final = 15

#: What a service manager told `vccid run`, which is not for the daemon.
_MANAGERS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be kept.

    Attributes:
        directory: scratch, removed at the end.
        runtime: where the daemon's sockets and pcscd's are.
        daemon: the daemon's command line.
        pcscd: the program.
        driver: libifdvccid.so.
        readers: how many there must be, named vccid0 and on.
        log: what daemon and pcscd print.
    """

    directory: Path
    runtime: Path
    daemon: list[str]
    pcscd: str
    driver: Path
    readers: int
    log: Path

    @property
    def control(self) -> Path:
        """The daemon's control socket."""
        return self.runtime / "control"

    @property
    def pcscd_socket(self) -> Path:
        """Where pcscd's clients connect."""
        return self.runtime / "pcscd.comm"


class Keeper:
    """The keeper, as `vccid run` sees it."""

    def __init__(self, plan: Plan) -> None:
        """Start it. Not for a process with threads."""
        word, self._word = os.pipe()
        self._life, life = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if not self._pid:
            os.close(word)
            os.close(life)
            _keep(plan, self._life, self._word)
        os.close(self._word)
        os.close(self._life)
        self._word, self._life = word, life
        self._said = os.fdopen(word, encoding="utf-8")

    def wait(self) -> None:
        """Wait until pcscd has come to the readers.

        Raises:
            RunFailed: daemon or pcscd did not come up.
        """
        word = self._next()
        if "error" in word:
            raise RunFailed(word["error"], word["hint"])

    def end(self) -> list[str]:
        """End daemon and pcscd; returns which of them had ended before."""
        os.close(self._life)
        ended = self._next().get("ended", [])
        self._said.close()
        os.waitpid(self._pid, 0)
        return [str(name) for name in ended]

    def _next(self) -> dict[str, Any]:
        line = self._said.readline()
        return dict(json.loads(line)) if line else {}


class _Server:
    """A child that has a socket."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.fd = os.pidfd_open(pid)
        self._pid = pid

    def ended(self) -> bool:
        return bool(select.select([self.fd], [], [], 0)[0])

    def end(self) -> None:
        if not self._waited(0):
            os.kill(self._pid, signal.SIGTERM)
            if not self._waited(PATIENCE):
                os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _waited(self, seconds: float) -> bool:
        return bool(select.select([self.fd], [], [], seconds)[0])


def _keep(plan: Plan, life: int, word: int) -> NoReturn:
    """Be the keeper."""
    last: dict[str, object] = {}
    try:
        _stand_apart(plan.log)
        with _servers(plan) as servers:
            _say(word, {"ready": True})
            select.select([life], [], [])
            last = {"ended": [server.name for server in servers if server.ended()]}
    except VccidError as error:
        last = {"error": _with_log(plan.log, error.message), "hint": error.hint}
    except OSError as error:
        last = {"error": _with_log(plan.log, str(error)), "hint": ""}
    finally:
        shutil.rmtree(plan.directory, ignore_errors=True)
        _say(word, last)
        os._exit(0)


def _stand_apart(log: Path) -> None:
    """Leave the terminal, and print to the log from now on."""
    os.setsid()
    for ignored in process.PASSED_ON:
        signal.signal(ignored, signal.SIG_IGN)  # `vccid run` says when it is over
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    to_log = os.open(log, flags, 0o600)
    for number, fd in enumerate((os.open(os.devnull, os.O_RDWR), to_log, to_log)):
        os.dup2(fd, number)


@contextlib.contextmanager
def _servers(plan: Plan) -> Iterator[list[_Server]]:
    """The daemon and pcscd, looking at all its readers."""
    with contextlib.ExitStack() as end:
        daemon = _start_daemon(plan)
        end.callback(plan.control.unlink, missing_ok=True)
        end.callback(daemon.end)
        with Client(plan.control) as client:
            readers = _readers(client, plan)
            service = _start_pcscd(plan, readers)
            end.callback(plan.pcscd_socket.unlink, missing_ok=True)
            end.callback(service.end)
            _await_pcscd(client, readers, service)
        yield [daemon, service]


def _start_daemon(plan: Plan) -> _Server:
    environment = {k: v for k, v in os.environ.items() if k not in _MANAGERS}
    with make_socket(plan.control) as listening:
        return _Server("vccid", process.spawn_server(plan.daemon, environment, listening, 2))


def _readers(client: Client, plan: Plan) -> dict[str, Path]:
    """The sockets of the readers pcscd shall have, by name; those wanted are made."""
    known = {reader["name"] for reader in client.call("ListReaders")["readers"]}
    for name in (f"vccid{number}" for number in range(plan.readers)):
        if name not in known:
            client.call("AddReader", {"name": name})
    sockets = {
        reader["name"]: Path(frontend["status"])
        for reader in client.call("ListReaders")["readers"]
        for frontend in reader["frontends"]
        if frontend["kind"] == "ifd" and frontend["up"]
    }
    if len(sockets) > pcscd.MOST_READERS:
        raise RunFailed(
            f"there are {len(sockets)} readers, and a pcscd takes {pcscd.MOST_READERS}",
            "give the others ifd = false in the settings",
        )
    return sockets


def _start_pcscd(plan: Plan, readers: dict[str, Path]) -> _Server:
    ipc, empty, configuration = (plan.directory / name for name in ("ipc", "empty", "pcscd"))
    ipc.mkdir()
    empty.mkdir()
    # By a link, since reader.conf(5) takes few characters in a path.
    driver = plan.directory / plan.driver.name
    driver.symlink_to(plan.driver)
    pcscd.declare(configuration, readers, driver)
    with make_socket(plan.pcscd_socket) as listening:
        plan.pcscd_socket.chmod(0o666)  # as pcscd's own; the folder tells who gets this far
        pid = process.spawn_server(
            pcscd.command(plan.pcscd, configuration),
            pcscd.environment(os.environ, empty),
            listening,
            2,
            lambda: pcscd.isolate(ipc, empty),
        )
    return _Server("pcscd", pid)


def _await_pcscd(client: Client, readers: dict[str, Path], service: _Server) -> None:
    """Wait until pcscd looks at each reader, and sees what came back into it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now = client.call("ListReaders")["readers"]
        if all(_settled(reader) for reader in now if reader["name"] in readers):
            return
        if service.ended():
            raise RunFailed("pcscd ended at once", pcscd.hint())
        if time.monotonic() > deadline:
            raise RunFailed("pcscd does not see the readers", pcscd.hint())
        time.sleep(0.01)


def _settled(reader: Parameters) -> bool:
    if reader["wanted"] and not (reader["card"] or reader["problem"]):
        return False
    return bool(reader["hosts"]) and all(host["seen"] for host in reader["hosts"])


def _with_log(log: Path, message: str) -> str:
    """The message, below what the daemon and pcscd said last."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
    except OSError:
        lines = []
    return "\n".join((*(f"| {line}" for line in lines), message))


def _say(word: int, what: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(word, json.dumps(what).encode() + b"\n")
