# SPDX-License-Identifier: LGPL-2.1-or-later
"""The process that keeps a private daemon and pcscd for as long as `vccid run` lives.

It is apart so that everything ends and the scratch folder goes however `vccid run` ends, by
SIGKILL too: it then reads the end of a pipe that nobody else holds. What it has to say comes by a
second pipe, a JSON object a line; one that ends without its line tells of the keeper's own end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import traceback
from typing import Any, Final, NoReturn

from vccid.errors import RunFailed, VccidError, unexpected
from vccid.run import process, scratch
from vccid.run.plan import Plan
from vccid.run.servers import LET_GO, PATIENCE, Life, Over, readable, serving
from vccid.run.stop import StopSocket

_HINT: Final = "the system's log may say why; out of memory, say"


class Keeper:
    """The keeper, as `vccid run` sees it."""

    def __init__(self, plan: Plan) -> None:
        """Start it. Not for a process with threads.

        Raises:
            RunFailed: there can be no more processes or pipes.
        """
        pipes: list[int] = []
        try:
            for _ in range(3):
                pipes += os.pipe()
            self._pid = os.fork()
        except OSError as error:
            for fd in pipes:
                os.close(fd)
            raise RunFailed(f"no process can be started: {error.strerror}") from error
        self._word, word, life, self._life, self._trail, trail = pipes
        if not self._pid:
            _keep(plan, Life(life), word, keep=(life, word, trail, plan.log.fd), trail=trail)
        for fd in (word, life, trail):
            os.close(fd)
        self._said = os.fdopen(self._word, encoding="utf-8")
        self._failed = False

    def wait(self) -> None:
        """Wait until the servers can be used.

        Raises:
            RunFailed: they did not come up, or the keeper itself was ended.
        """
        word = self._next()
        self._failed = "ready" not in word
        if "error" in word:
            raise RunFailed(word["error"], word["hint"])
        if self._failed:
            raise RunFailed("what keeps daemon and pcscd ended before they were ready", _HINT)

    def check(self) -> None:
        """Look once more, now that the command is about to begin.

        Raises:
            RunFailed: the keeper was ended.
        """
        if readable(self._word, seconds=0):
            self._failed = True
            raise RunFailed("what keeps daemon and pcscd has ended", _HINT)

    def let_go(self) -> None:
        """Let it go on by itself.

        Raises:
            RunFailed: it was ended.
        """
        try:
            os.write(self._life, LET_GO)
        except OSError as error:
            raise RunFailed("what keeps daemon and pcscd has ended", _HINT) from error

    def end(self) -> list[str]:
        """End the servers; returns who had ended before, and was not told of yet."""
        os.close(self._life)
        os.kill(self._pid, signal.SIGCONT)  # stopped, it would not hear of it
        last: dict[str, Any] = {}
        while word := self._next():  # none was read yet where we were interrupted
            last = word
        self._said.close()
        os.waitpid(self._pid, 0)
        # Had it been killed, the kernel has told the servers to end; they may write till then.
        readable(self._trail, seconds=PATIENCE)
        os.close(self._trail)
        if self._failed or "error" in last:
            return []
        return [str(name) for name in last.get("ended", ["what keeps daemon and pcscd"])]

    def _next(self) -> dict[str, Any]:
        line = self._said.readline()
        return dict(json.loads(line)) if line.endswith("\n") else {}


def _keep(plan: Plan, life: Life, word: int, keep: tuple[int, ...], trail: int) -> NoReturn:
    """Be the keeper."""
    last: dict[str, object] = {"ended": []}
    try:
        _stand_apart(plan.log.fd, keep)
        os.set_inheritable(trail, True)  # held by the servers too, until they have ended
        with contextlib.ExitStack() as end:
            stop = end.enter_context(StopSocket(plan)) if plan.detached else None
            servers = end.enter_context(serving(plan, life))
            _say(word, {"ready": True})
            if life.wait_for_end() and stop is not None:
                stop.wait(server.fd for server in servers)
            last = {"ended": [server.name for server in servers if server.ended]}
    except Over:
        pass
    except VccidError as error:
        last = _failed(plan, error)
    except OSError as error:
        last = _failed(plan, scratch.refused(error, plan.directory))
    except Exception as error:  # no memory, no thread, a fault of ours
        traceback.print_exc()
        last = _failed(plan, unexpected(error))
    finally:
        shutil.rmtree(plan.directory, ignore_errors=True)
        _say(word, last)
        os._exit(0)


def _stand_apart(log: int, keep: tuple[int, ...]) -> None:
    """Leave the terminal and what else we inherited, and print to the log from now on."""
    os.setsid()
    for ignored in process.PASSED_ON:
        signal.signal(ignored, signal.SIG_IGN)  # `vccid run` says when it is over
    signal.pthread_sigmask(signal.SIG_UNBLOCK, process.PASSED_ON)
    for number, fd in enumerate((os.open(os.devnull, os.O_RDWR), log, log)):
        os.dup2(fd, number)
    _close_all_but(keep)


def _close_all_but(keep: tuple[int, ...]) -> None:
    """Beyond the standard streams; somebody may wait for the end of a pipe that we inherited."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(fd)


def _failed(plan: Plan, error: VccidError) -> dict[str, object]:
    return {"error": plan.log.quoted(error.message), "hint": error.hint}


def _say(word: int, what: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        os.write(word, json.dumps(what).encode() + b"\n")
