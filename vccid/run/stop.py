# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vccid stop`: the end of a `vccid run --detach`, as it asks for it and as the keeper hears it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from vccid.errors import RunFailed
from vccid.run import scratch
from vccid.run.plan import Plan
from vccid.run.servers import readable

_NAME: Final = "keeper"

#: Seconds all of it is given to end.
_PATIENCE: Final = 60.0


class StopSocket:
    """Where the keeper of a detached run is told to end: by whoever can connect."""

    def __init__(self, plan: Plan) -> None:
        """Listen.

        Raises:
            RunFailed: the process to end with is not there.
        """
        self._with: int | None = None
        if plan.end_with is not None:
            try:
                self._with = os.pidfd_open(plan.end_with)
            except OSError as error:
                raise RunFailed(
                    f"--end-with {plan.end_with}: {error.strerror}", "in a script: --end-with $$"
                ) from error
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(os.fspath(plan.directory / _NAME))
        self._socket.listen()
        #: Held until we end, which is how they know.
        self._callers: list[socket.socket] = []

    def __enter__(self) -> StopSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Whoever asked waits until this process has ended."""

    def wait(self, servers: Iterable[int]) -> None:
        """Wait until somebody says so, the process to end with has ended, or a server has."""
        others = [fd for fd in (self._with, *servers) if fd is not None]
        ready = readable(self._socket.fileno(), *others)
        if self._socket.fileno() in ready:
            self._callers.append(self._socket.accept()[0])


def stop(directory: Path) -> None:
    """End a detached run, and return once nothing is left of it.

    Args:
        directory: its scratch folder, which VCCID_RUN names.

    Raises:
        RunFailed: there is none, or it does not end.
    """
    try:
        if not scratch.is_one(directory):
            raise RunFailed(f"{directory} is no folder of vccid run --detach", "see VCCID_RUN")
        _end_keeper(directory)
    except TimeoutError as error:
        raise RunFailed(f"it did not end within {_PATIENCE:g} seconds", "") from error
    except (FileNotFoundError, ConnectionError):
        pass  # its keeper was killed: the kernel has ended what it kept
    except OSError as error:
        raise RunFailed(f"{directory} cannot be reached: {error.strerror or error}", "") from error
    shutil.rmtree(directory, ignore_errors=True)


def _end_keeper(directory: Path) -> None:
    """Tell it to end; returns once it has.

    Raises:
        TimeoutError, OSError: it does not, or nobody is there.
    """
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(_PATIENCE)
        caller.connect(os.fspath(directory / _NAME))
        caller.recv(1)
