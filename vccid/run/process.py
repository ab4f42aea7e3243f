# SPDX-License-Identifier: LGPL-2.1-or-later
"""Children that end with us: servers that get a socket, and the command that gets our terminal.

Source: prctl(2), PR_SET_PDEATHSIG; sd_listen_fds(3); signal(7).
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

#: sigaction(2), si_code: the terminal sent it, and to the command as well.
_SI_KERNEL: Final = 0x80

#: SD_LISTEN_FDS_START
_FIRST_FD: Final = 3

#: What Python ignores for itself; a program expects them as they were.
_PYTHONS: Final = (signal.SIGPIPE, signal.SIGXFSZ)

#: What asks a process to end or to do something, and is passed on to the command.
PASSED_ON: Final = (
    signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip


def spawn_server(
    argv: list[str],
    environment: Mapping[str, str],
    listening: socket.socket,
    log: int,
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Start a program that is handed its socket as systemd would; returns its process id.

    It gets SIGTERM when its parent dies. Not for a process with threads.

    Args:
        log: file descriptor for what it prints.
        prepare: done in the child before the program.
    """
    parent = os.getpid()

    def become() -> NoReturn:
        null = os.open(os.devnull, os.O_RDWR)
        for number, fd in enumerate((null, log, log, listening.fileno())):
            os.dup2(fd, number)
        os.set_inheritable(_FIRST_FD, True)
        for number in (*_PYTHONS, *PASSED_ON):
            signal.signal(number, signal.SIG_DFL)
        prepare()
        _end_with(parent, signal.SIGTERM)
        handed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.execve(argv[0], argv, {**environment, **handed})

    if not (pid := os.fork()):
        _in_child(argv[0], become)
    return pid


def run_command(argv: list[str], environment: Mapping[str, str]) -> int:
    """Run a command as if it had been called itself; returns its wait status.

    It keeps our terminal, process group and standard streams. What the terminal sends reaches it
    directly; a signal sent to us is passed on. It is killed when we are.
    """
    parent = os.getpid()
    watched = {*PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)

    def become() -> NoReturn:
        for number in _PYTHONS:
            signal.signal(number, signal.SIG_DFL)
        _end_with(parent, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.execvpe(argv[0], argv, environment)

    if not (pid := os.fork()):
        _in_child(argv[0], become)
    while True:
        about = signal.sigwaitinfo(watched)
        if about.si_signo != signal.SIGCHLD:
            if about.si_code != _SI_KERNEL:
                os.kill(pid, about.si_signo)
            continue
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status


def end_as(status: int) -> NoReturn:
    """End as a command with this wait status did: with its exit code, or by its signal."""
    if not os.WIFSIGNALED(status):
        os._exit(os.waitstatus_to_exitcode(status))
    number = os.WTERMSIG(status)
    with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    _no_core()
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _no_core() -> None:
    """The command has left its own core dump."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with(parent: int, number: int) -> None:
    """Have the kernel send us a signal when the parent dies; end now where it has."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _in_child(name: str, become: Callable[[], NoReturn]) -> NoReturn:
    """Become another program, or say why not and end as a shell does."""
    code = 126
    try:
        become()
    except FileNotFoundError as error:
        code = 127
        os.write(2, f"vccid: {name} cannot be run: {error.strerror}\n".encode())
    except OSError as error:
        os.write(2, f"vccid: {name} cannot be run: {error.strerror}\n".encode())
    finally:
        os._exit(code)
