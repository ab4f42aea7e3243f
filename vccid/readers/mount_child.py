# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file view the settings ask for: `vccidctl mount` as a child of the daemon.

A process of its own, so that the daemon needs neither the kernel's device nor anything setuid.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Final

from vccid.settings import config

log = logging.getLogger(__name__)

#: Seconds until one that was killed is started again, and that one gets to unmount.
_PAUSE: Final = 1.0
_PATIENCE: Final = 5.0


class FileViewKeeper:
    """The child, kept as the settings want it.

    Attributes:
        problem: why the files are not there though they should be, or None.
    """

    def __init__(self, control: Path) -> None:
        """`control` is the daemon's control socket."""
        self.problem: str | None = None
        self._control = control
        self._wanted = config.FileView()
        self._task: asyncio.Task[None] | None = None

    async def apply(self, wanted: config.FileView) -> None:
        """Mount, unmount, or mount elsewhere."""
        if wanted == self._wanted:
            return
        await self.stop()
        self._wanted = wanted
        if wanted.mount:
            self._task = asyncio.create_task(self._keep(wanted), name="file view")

    async def stop(self) -> None:
        """Unmount. May be repeated."""
        self._wanted, self.problem = config.FileView(), None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, wanted: config.FileView) -> None:
        """Mount, and again whenever it was killed; not once it cannot, or somebody unmounted."""
        try:
            while await self._mount_once(wanted):
                await asyncio.sleep(_PAUSE)
        except OSError as error:
            self.problem = f"no files at {wanted.mount}: {error.strerror}"
        if self.problem:
            log.error("%s", self.problem)

    async def _mount_once(self, wanted: config.FileView) -> bool:
        """Returns whether it is to be tried again."""
        process = await asyncio.create_subprocess_exec(
            *self._command(wanted), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=_environment()
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            mounted = bool(await process.stdout.readline())
            self.problem = None
            if mounted:
                log.info("the readers are mounted at %s", wanted.mount)
            said = await process.stderr.read()
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        if mounted and code == 0:
            self.problem = f"no files at {wanted.mount}: somebody unmounted them"
            return False
        lines = said.decode(errors="replace").removeprefix("vccidctl: ").splitlines()
        words = " — ".join(line.strip() for line in lines)
        self.problem = f"no files at {wanted.mount}: {words or f'vccidctl mount ended with {code}'}"
        return mounted

    def _command(self, wanted: config.FileView) -> list[str]:
        # -P: nothing is imported from the directory the daemon was started in.
        command = [sys.executable, "-P", "-m", "vccid.ctl.main", "--socket", str(self._control)]
        command += ["mount", "--foreground", *(["--allow-other"] if wanted.allow_other else [])]
        return [*command, "--", wanted.mount]


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _environment() -> dict[str, str]:
    """Ours, without what is the service manager's word to us alone."""
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
