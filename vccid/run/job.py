# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command: it has our terminal, our process group, our streams, and all that is sent to us.

To the shell that called us, the command and we are one job: it stops when the command does, and
goes on as a whole.

Source: signal(7); credentials(7), sessions and process groups; sigaction(2), si_code; termios(3);
glibc manual, "Implementing a Shell" and "Orphaned Process Groups".
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NoReturn

from vccid.run import process
from vccid.run.job_states import JOB, Event, State

#: sigaction(2), si_code: sent by the terminal, to the command's process group as well.
_SI_KERNEL: Final = 0x80

#: By these the terminal stops a job. We stop when the command has, and not before.
_STOPS: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_WATCHED: Final = {*process.PASSED_ON, *_STOPS, signal.SIGCHLD, signal.SIGCONT}

_SHELL: Final = "/bin/sh"

#: Fields of `_stat`.
_STAT_STATE: Final = 0
_STAT_PARENT: Final = 1


def run_command(
    argv: list[str],
    environment: Mapping[str, str],
    closed: Iterable[int] = (),
    umask: int | None = None,
) -> int:
    """Run a command as if it had been called itself; returns its wait status.

    It is killed when we are.

    Args:
        closed: standard streams that it shall find closed.
        umask: where it is not ours.
    """
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)

    def become() -> NoReturn:
        for number in process.PYTHONS:
            signal.signal(number, signal.SIG_DFL)
        process.end_with(parent, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for fd in closed:
            os.set_inheritable(fd, False)
        if umask is not None:
            os.umask(umask)
        try:
            os.execvpe(argv[0], argv, environment)
        except OSError as error:
            script = shutil.which(argv[0])
            if error.errno != errno.ENOEXEC or script is None:
                raise
            # execvp(3): a file without "#!" is the shell's.
            os.execve(_SHELL, [_SHELL, script, *argv[1:]], environment)

    if not (pid := os.fork()):
        process.in_child(argv[0], become)
    with contextlib.closing(_Terminal(pid)) as terminal:
        return _Job(pid, terminal).attend()


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


class _Job:
    """The command that runs."""

    def __init__(self, pid: int, terminal: _Terminal) -> None:
        self._pid = pid
        self._terminal = terminal
        self._state = JOB.initial

    def attend(self) -> int:
        """Do for it what there is to do until it has ended; returns its wait status."""
        while True:
            about = signal.sigwaitinfo(_WATCHED)
            if about.si_signo == signal.SIGCHLD:
                status = self._look()
                if status is not None:
                    return status
            elif about.si_signo == signal.SIGCONT:
                self._go_on()
            elif about.si_code != _SI_KERNEL or self._missed(about.si_signo):
                os.kill(self._pid, about.si_signo)

    def _missed(self, number: int) -> bool:
        """Whether the terminal sent it to us alone: its hangup, to the leader of the session."""
        return number == signal.SIGHUP and os.getsid(0) == os.getpid()

    def _look(self) -> int | None:
        """Its wait status, where it has ended; where it has stopped, so do we."""
        ended, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
        if not ended:
            return None
        if not os.WIFSTOPPED(status):
            return status
        self._state = JOB.after(self._state, Event.STOPPED)
        if signal.SIGCONT not in signal.sigpending():  # else we have been stopped with it
            self._stop()
        return None

    def _stop(self) -> None:
        """Let our shell see it; returns once the shell has us go on."""
        if not self._terminal:
            return  # whoever has no terminal has no job control
        if _orphaned():
            self._go_on()  # nobody would
            return
        self._terminal.note()
        os.killpg(os.getpgrp(), signal.SIGSTOP)

    def _go_on(self) -> None:
        before, self._state = self._state, JOB.after(self._state, Event.CONTINUED)
        if before is not State.STOPPED:
            return
        group = os.getpgid(self._pid)
        if group != os.getpgrp():
            self._terminal.give_back(group)
            os.killpg(group, signal.SIGCONT)
        elif self._is_stopped_as_before():  # else our shell had it go on, as it had us
            os.kill(self._pid, signal.SIGCONT)

    def _is_stopped_as_before(self) -> bool:
        """Whether it is stopped, and was not stopped anew: that would still be waited for."""
        if _stat(self._pid)[_STAT_STATE] != b"T":
            return False
        return os.waitid(os.P_PID, self._pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None


class _Terminal:
    """Our terminal; false where there is none."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._was_its = False
        try:
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def __bool__(self) -> bool:
        return self._fd >= 0

    def note(self) -> None:
        """Remember whether the command has it."""
        with contextlib.suppress(OSError):
            self._was_its = os.tcgetpgrp(self._fd) == os.getpgid(self._pid)

    def give_back(self, group: int) -> None:
        """Give it to the command's own group again, where our shell has given it to us."""
        with contextlib.suppress(OSError):
            if self._was_its and os.tcgetpgrp(self._fd) == os.getpgrp():
                os.tcsetpgrp(self._fd, group)

    def close(self) -> None:
        if self:
            os.close(self._fd)


def _orphaned() -> bool:
    """Whether no process that could continue our group is above it in the session."""
    group, session = os.getpgrp(), os.getsid(0)
    try:
        above = os.getppid()
        while above and os.getpgid(above) == group:
            above = int(_stat(above)[_STAT_PARENT])
        return not above or os.getsid(above) != session
    except OSError:
        return True


def _stat(pid: int) -> list[bytes]:
    """proc(5), /proc/PID/stat, from behind the name."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
