# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file view's life: mounted, served, unmounted when the daemon ends or somebody says so."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

from vccid.files import mount
from vccid.files.channel import Channel
from vccid.files.link import Link
from vccid.files.mount import Mounted, MountFailed
from vccid.files.view import View

#: pyfuse3 keeps a task for each request that waits; it shall never be out of them.
_MOST_TASKS: Final = 2**31 - 1
#: Seconds for those who have a file open, to read its end once it is unmounted.
_GRACE: Final = 2.0


class End(Enum):
    """Why the file view ended."""

    TOLD = "told"
    UNMOUNTED = "unmounted"
    DAEMON_ENDED = "daemon ended"


def check() -> None:
    """Look for what serving needs.

    Raises:
        MountFailed: pyfuse3 is not installed.
    """
    try:
        import pyfuse3_asyncio  # noqa: F401
    except ImportError:
        raise MountFailed(
            "pyfuse3 is missing, which serves the files", "as root: apt install python3-pyfuse3"
        ) from None


def serve(control: Path, mounted: Mounted, ready: Callable[[], None]) -> End:
    """Serve a mounted file view to its end; it is unmounted then, however it ended.

    Args:
        control: the daemon's control socket.
        ready: called once files can be read.

    Raises:
        DaemonGone: no daemon is there.
        MountFailed: the kernel or pyfuse3 failed us.
    """
    try:
        # asyncio's own loop: it is the one pyfuse3 knows.
        with asyncio.Runner() as runner:
            return runner.run(_serve(control, mounted, ready))
    finally:
        mounted.close()


async def _serve(control: Path, mounted: Mounted, ready: Callable[[], None]) -> End:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    link = await Link.connect(control)
    channel = Channel(mounted.device)
    try:
        serving = _Serving(View(link, control), channel)
        ready()
        word = asyncio.ensure_future(told.wait())
        await asyncio.wait(
            {word, link.ended, channel.gone, serving.task}, return_when=asyncio.FIRST_COMPLETED
        )
        if channel.gone.done():
            end = End.UNMOUNTED
        else:
            end = End.TOLD if word.done() else End.DAEMON_ENDED
            # In a thread, since the kernel may ask us something for it.
            await asyncio.to_thread(mount.unmount, mounted.directory)
        word.cancel()
        await serving.stop()
        return end
    finally:
        channel.close()
        await link.close()


class _Serving:
    """pyfuse3, of which a process has one.

    Attributes:
        task: ends when it has ended.
    """

    def __init__(self, view: View, channel: Channel) -> None:
        import pyfuse3
        import pyfuse3_asyncio

        from vccid.files.operations import Operations

        pyfuse3_asyncio.enable()
        self._pyfuse3 = pyfuse3
        self._channel = channel
        self._operations = Operations(view, channel)
        # mount.fuse3(8): the file system is mounted, and this descriptor is its device.
        pyfuse3.init(self._operations, f"/dev/fd/{channel.libfuse}", frozenset())
        self.task = asyncio.ensure_future(pyfuse3.main(max_tasks=_MOST_TASKS))

    async def stop(self) -> None:
        """Answer what is still asked, and end.

        Unmounted, the file system is there for those who have it open, and gone when they have
        closed it: had we ended before, a read would get ENOTCONN in place of the end.

        Raises:
            MountFailed: it had ended by itself.
        """
        failed = self.task.done()
        self._operations.end()
        await asyncio.wait(
            {self._channel.gone, self.task},
            timeout=_GRACE,
            return_when=asyncio.FIRST_COMPLETED,
        )
        with contextlib.suppress(asyncio.InvalidStateError):
            self._pyfuse3.terminate()
        await asyncio.wait({self.task})
        self._channel.pass_on()
        self._pyfuse3.close(unmount=False)
        if failed:
            raise MountFailed("pyfuse3 failed", "mount again") from self.task.exception()
