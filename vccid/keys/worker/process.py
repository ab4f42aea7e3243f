# SPDX-License-Identifier: LGPL-2.1-or-later
"""The processes that have the modules.

The daemon starts one, the nursery: it has everything imported, no module and no thread, and forks
a worker whenever it is told to, within a millisecond or two. A worker has one module for its whole
life. Both end when the daemon does, whatever a module does, and with a closed control socket.

To the nursery, `FORK` comes with two descriptors: the new worker's control socket, and a pipe on
which its process id is told at once, and its wait status once it has ended; 4 bytes each. `KILL`
comes with a process id. A worker is sent one descriptor with each byte on its control socket: a
connection, on which requests are answered one after another.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import select
import signal
import socket
import threading
from contextlib import suppress
from struct import Struct
from typing import Final, NoReturn

from vccid.errors import RemoteProtocolError
from vccid.keys.worker.messages import FrameReader, frame
from vccid.keys.worker.verbs import Served

FORK, KILL, CONNECT = b"F", b"K", b"C"
#: A process id, and a wait status.
NUMBER: Final = Struct("=i")

# prctl(2)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
#: mallopt(3)
_M_ARENA_MAX: Final = -8

_CHUNK: Final = 1 << 16


def nursery(control_fd: int, parent: int) -> NoReturn:
    """Fork workers until the daemon closes its end.

    Args:
        control_fd: our end of a pair of stream sockets.
        parent: the daemon's process id.
    """
    _confine(parent)
    gc.collect()
    gc.freeze()  # what is here now is written to by no collection, and stays shared
    control = socket.socket(fileno=control_fd)
    children: dict[int, tuple[int, int]] = {}  # its pidfd: its process id and pipe
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                poll.unregister(ready)
                _report(ready, *children.pop(ready))
            elif (child := _told(control, children)) is not None:
                poll.register(child, select.POLLIN)


def _told(control: socket.socket, children: dict[int, tuple[int, int]]) -> int | None:
    """Do what the daemon says; returns a new child's pidfd."""
    order, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    if order == FORK and len(descriptors) == 2:
        return _fork(control, children, *descriptors)
    if order != KILL:
        os._exit(0)
    (pid,) = NUMBER.unpack(control.recv(NUMBER.size, socket.MSG_WAITALL))
    if any(pid == child for child, _ in children.values()):
        os.kill(pid, signal.SIGKILL)
    return None


def _fork(
    control: socket.socket, children: dict[int, tuple[int, int]], its_control: int, pipe: int
) -> int:
    ours = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            for descriptor in (control.detach(), pipe, *children):
                os.close(descriptor)
            for _, other in children.values():
                os.close(other)
            _confine(ours)
            _work(socket.socket(fileno=its_control))
        finally:
            os._exit(1)
    os.close(its_control)
    with suppress(OSError):
        os.write(pipe, NUMBER.pack(pid))
    pidfd = os.pidfd_open(pid)
    children[pidfd] = pid, pipe
    return pidfd


def _report(pidfd: int, pid: int, pipe: int) -> None:
    """Tell the daemon how a child ended."""
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        os.write(pipe, NUMBER.pack(status))
    os.close(pidfd)
    os.close(pipe)


def _confine(parent: int) -> None:
    """End with our parent, gain no privilege, and let nobody look into our memory."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.mallopt(_M_ARENA_MAX, 1)
    # A terminal's and systemd's signals reach every process; the daemon is to end us in order.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _work(control: socket.socket) -> NoReturn:
    """Serve connections until the daemon closes its end, even with threads inside a module."""
    served = Served()
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            os._exit(0)
        connection = socket.socket(fileno=descriptors[0])
        threading.Thread(target=_serve, args=(served, connection), daemon=True).start()


def _serve(served: Served, connection: socket.socket) -> None:
    reader = FrameReader()
    with connection, suppress(OSError, RemoteProtocolError):
        while data := connection.recv(_CHUNK):
            message = reader.feed(data)
            if message is not None:
                connection.sendall(frame(served.answer(message)))
