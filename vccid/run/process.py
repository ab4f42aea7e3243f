# SPDX-License-Identifier: LGPL-2.1-or-later
"""Children that end with us, by the kernel's word when need be.

Source: prctl(2), PR_SET_PDEATHSIG; sd_listen_fds(3).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

#: prctl(2)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15

#: SD_LISTEN_FDS_START
_FIRST_FD: Final = 3

#: What Python ignores for itself; a program expects them as they were.
PYTHONS: Final = (signal.SIGPIPE, signal.SIGXFSZ)

#: What asks a process to end or to do something, and is passed on to the command.
PASSED_ON: Final = (
    signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip


def spawn_server(
    argv: list[str],
    environment: Mapping[str, str],
    listening: socket.socket | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Start a program as `fork_server` does; returns its process id.

    Args:
        listening: handed over as systemd would.
        prepare: done in the child before the program.
    """
    parent = os.getpid()

    def become() -> NoReturn:
        handed = {}
        if listening is not None:
            _put(listening.fileno(), _FIRST_FD)
            handed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        for number in PYTHONS:
            signal.signal(number, signal.SIG_DFL)
        prepare()
        end_with(parent, signal.SIGTERM)
        os.execve(argv[0], argv, {**environment, **handed})

    return _fork(argv[0], become)


def fork_server(name: str, serve: Callable[[], NoReturn]) -> int:
    """Start a child that serves by our own code; returns its process id.

    It has our standard streams and what else a program would inherit, and gets SIGTERM when its
    parent dies. Not for a process with threads.

    Args:
        name: as process lists show it, 15 bytes.
        serve: done in the child; must not return.
    """
    parent = os.getpid()

    def become() -> NoReturn:
        _close_as_exec_would()
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NAME, os.fsencode(name), 0, 0, 0)
        end_with(parent, signal.SIGTERM)
        serve()

    return _fork(name, become)


def _fork(name: str, become: Callable[[], NoReturn]) -> int:
    """What is sent to the child before it has become what it is to be is not lost."""
    # Told to end before it is itself, it would ignore that as we may.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)

    def begin() -> NoReturn:
        for number in PASSED_ON:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # nor are blocked signals inherited
        become()

    try:
        if not (pid := os.fork()):
            in_child(name, begin)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _close_as_exec_would() -> None:
    """Objects that had these files must not be used, nor be let go of, any more."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the one that listed them
            if not os.get_inheritable(fd):
                os.close(fd)


def _put(fd: int, number: int) -> None:
    """Give a file a number that a program looks for; who had it keeps another."""
    if fd != number:
        with contextlib.suppress(OSError):  # nobody had it
            inheritable = os.get_inheritable(number)
            os.set_inheritable(os.dup(number), inheritable)
        os.dup2(fd, number)
    os.set_inheritable(number, True)


def end_with(parent: int, number: int) -> None:
    """Have the kernel send us a signal when the parent dies; end now where it has."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def in_child(name: str, become: Callable[[], NoReturn]) -> NoReturn:
    """Become another program, or say why not and end as a shell does."""
    code = 126
    try:
        become()
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            code = 127
        reason = error.strerror if isinstance(error, OSError) else error
        os.write(2, os.fsencode(f"vccid: {name} cannot be run: {reason}\n"))
    finally:
        os._exit(code)
