# SPDX-License-Identifier: LGPL-2.1-or-later
"""The servers that are kept: a daemon, and where it is asked for a pcscd between."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from vccid.ctl.client import Client
from vccid.daemon.main import Exit, be_daemon
from vccid.daemon.socket_and_lock import make_socket
from vccid.errors import RunFailed
from vccid.run import pcscd, process, scratch
from vccid.run.plan import Pcscd, Plan
from vccid.settings.config import DEFAULT_READER
from vccid.wire.varlink import Parameters

#: Seconds a server is given to leave, readers to get ready, and the daemon to answer.
PATIENCE: Final = 20.0

#: Seconds the daemon is given to be ready.
_START: Final = 60.0

#: What a service manager told `vccid run`, which is not for the daemon.
_MANAGERS: Final = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
)


#: What `vccid run` says of one that shall go on without it.
LET_GO: Final = b"d"


class Over(Exception):
    """`vccid run` has ended, or says that it is over."""


class Life:
    """The life of `vccid run`: the end of a pipe that nobody else holds."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def wait(self, *fds: int, seconds: float | None = None) -> set[int]:
        """Wait until some of the descriptors can be read, or the time is over.

        Raises:
            Over: it has ended.
        """
        ready = readable(self._fd, *fds, seconds=seconds)
        if self._fd in ready:
            raise Over
        return ready

    def wait_for_end(self) -> bool:
        """Wait until it has ended; whether it has let us go before."""
        readable(self._fd)
        return os.read(self._fd, 1) == LET_GO


class Server:
    """A child that serves.

    Attributes:
        name: for messages.
        fd: can be read once it has ended.
    """

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.fd = os.pidfd_open(pid)
        self._pid = pid

    @property
    def ended(self) -> bool:
        return bool(readable(self.fd, seconds=0))

    def exit_code(self) -> int | None:
        """What it ended with, or None where a signal ended it."""
        about = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        assert about is not None, "waitid waits"
        return about.si_status if about.si_code == os.CLD_EXITED else None

    def end(self) -> None:
        """Have it leave."""
        if not self.ended:
            os.kill(self._pid, signal.SIGTERM)
            os.kill(self._pid, signal.SIGCONT)  # it may have been stopped
            if not readable(self.fd, seconds=PATIENCE):
                os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def readable(*fds: int, seconds: float | None = None) -> set[int]:
    """Those that can be read, or have ended, once there are any or the time is over.

    poll(2) and not select(2), which takes no descriptor beyond 1023.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)}


@contextlib.contextmanager
def serving(plan: Plan, life: Life) -> Iterator[list[Server]]:
    """The servers, once each can be used.

    Raises:
        RunFailed: one cannot be had.
        Over: nobody wants them any more.
    """
    with contextlib.ExitStack() as end:
        daemon = _fork_daemon(plan)
        end.callback(daemon.end)
        with daemon.notify:
            _await_daemon(daemon, life)
        with Client(plan.control, PATIENCE) as client:
            readers = _readers(client, plan)
            servers: list[Server] = [daemon]
            if plan.behind is not None:
                servers.append(_start_pcscd(plan, plan.behind, readers, _labels(client, plan)))
                end.callback(servers[-1].end)
            _await_readers(client, set(readers), servers, life)
        yield servers


# -- the daemon ------------------------------------------------------------------------------------


class _Daemon(Server):
    """The daemon, as its service manager has it.

    Attributes:
        notify: where it says that it is ready.
    """

    def __init__(self, pid: int, notify: socket.socket) -> None:
        super().__init__("vccid", pid)
        self.notify = notify


def _fork_daemon(plan: Plan) -> _Daemon:
    """It makes its control socket itself, once it has the lock of its directories.

    Another program would load anew all that is loaded here.
    """
    path = plan.directory / "notify"
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(os.fspath(path))

    def serve() -> NoReturn:
        for name in _MANAGERS:
            os.environ.pop(name, None)
        os.environ["NOTIFY_SOCKET"] = os.fspath(path)
        be_daemon(plan.places, plan.settings)

    return _Daemon(process.fork_server("vccid-daemon", serve), notify)


def _await_daemon(daemon: _Daemon, life: Life) -> None:
    deadline = time.monotonic() + _START
    while True:
        left = max(0.0, deadline - time.monotonic())
        ready = life.wait(daemon.notify.fileno(), daemon.fd, seconds=left)
        if daemon.notify.fileno() in ready:
            if b"READY=1" in daemon.notify.recv(65536).splitlines():
                return
        elif not ready:
            raise RunFailed(f"the daemon was not ready within {_START:g} seconds", "see --log")
        elif daemon.exit_code() == Exit.ALREADY_RUNNING:
            raise RunFailed(
                "another vccid uses the directories that were named",
                "stop it first, or name others; left out, they are temporary",
            )
        else:
            raise RunFailed("the daemon ended at once", "its own words are above, or in --log")


def _readers(client: Client, plan: Plan) -> dict[str, Path]:
    """The sockets for pcscd's driver of the readers, by name; those wanted are made."""
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
    if plan.behind is not None and len(sockets) > pcscd.MOST_READERS:
        raise RunFailed(
            f"there are {len(sockets)} readers, and a pcscd takes {pcscd.MOST_READERS}",
            "give the others ifd = false in the settings",
        )
    return sockets


def _labels(client: Client, plan: Plan) -> dict[str, str]:
    """What programs shall see each reader by, by its name."""
    labels = {reader["name"]: reader["label"] for reader in client.call("ListReaders")["readers"]}
    return labels if not plan.label else {**labels, DEFAULT_READER: plan.label}


# -- pcscd -----------------------------------------------------------------------------------------


def _start_pcscd(
    plan: Plan, behind: Pcscd, readers: dict[str, Path], labels: dict[str, str]
) -> Server:
    ipc, empty, configuration = (plan.directory / name for name in ("ipc", "empty", "pcscd"))
    ipc.mkdir()
    empty.mkdir()
    # By links, since reader.conf(5) takes few characters in a path, and no blank.
    driver, sockets = plan.directory / "libifdvccid.so", plan.directory / "ifd"
    driver.symlink_to(behind.driver)
    sockets.symlink_to(plan.places.runtime)
    places = [(labels[name], sockets / path.name) for name, path in readers.items()]
    pcscd.declare(configuration, places, driver)
    needed = (plan.directory, plan.places.runtime, behind.driver.parent)
    with make_socket(plan.programs_socket, scratch.HINT) as listening:
        pid = process.spawn_server(
            pcscd.command(behind.program, configuration),
            pcscd.environment(os.environ, empty),
            listening,
            lambda: pcscd.isolate(ipc, empty, needed),
        )
    return Server("pcscd", pid)


def _await_readers(client: Client, names: set[str], servers: list[Server], life: Life) -> None:
    """Wait until what came back into each reader is there, and pcscd looks at each."""
    deadline = time.monotonic() + PATIENCE
    daemon, *behind = servers
    while True:
        now = client.call("ListReaders")["readers"]
        if all(_settled(reader, bool(behind)) for reader in now if reader["name"] in names):
            return
        ended = life.wait(*(server.fd for server in servers), seconds=0.01)
        if daemon.fd in ended:
            raise RunFailed("the daemon ended at once", "its own words are above, or in --log")
        if ended:
            raise RunFailed("pcscd ended at once", pcscd.hint())
        if time.monotonic() > deadline:
            raise RunFailed("the readers do not get ready", "what is wrong may be above")


def _settled(reader: Parameters, by_pcscd: bool) -> bool:
    if reader["wanted"] and not (reader["card"] or reader["problem"]):
        return False
    hosts = reader["hosts"]
    return not by_pcscd or (bool(hosts) and all(host["seen"] for host in hosts))
