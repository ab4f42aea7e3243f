# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's life: start, signals, reload, end; and its word with the service manager."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Coroutine, Mapping

from vccid.control.callers import Access, peer_of
from vccid.control.methods import Methods
from vccid.control.server import ControlServer
from vccid.daemon import logging as daemon_logging
from vccid.daemon.control_socket import ControlSocket
from vccid.daemon.sd_notify import Notifier, watchdog_interval
from vccid.errors import VccidError, unexpected
from vccid.process.cleanup import take_all_async
from vccid.process.threads import Threads
from vccid.readers.manager import ReaderManager
from vccid.settings import config_files
from vccid.settings.config import Settings
from vccid.settings.directories import Directories

log = logging.getLogger(__name__)

Overrides = Mapping[tuple[str, str], str]


class Daemon:
    """One daemon, from READY to its end."""

    def __init__(
        self,
        directories: Directories,
        settings: Settings,
        overrides: Overrides,
        handed: tuple[socket.socket, ...],
    ) -> None:
        """Put it together.

        Args:
            overrides: settings of the command line, which a reload keeps.
            handed: the control sockets systemd made; none to make one.
        """
        self._directories = directories
        self._overrides = overrides
        self._settings = settings
        self._socket = ControlSocket(directories.control, handed)
        self._manager = ReaderManager(directories, settings, self._socket.place)
        self._manager.frontends.may_use = self._may_use_readers
        self._users = Access(settings.pcsc.group or settings.control.group)
        self._methods = Methods(self._manager, settings, str(self._socket.place))
        self._control = ControlServer(self._methods, Access(settings.control.group))
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        # One reload at a time, so that what was read last is what stays.
        self._reloads = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ConfigError: a socket cannot be made.
        """
        loop = asyncio.get_running_loop()
        loop.set_default_executor(Threads(thread_name_prefix="vccid"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        try:
            await self._manager.start()
            await self._control.start(*self._socket.open(self._settings.control))
            loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
            self._manager.events.changed = self._tell
            self._notifier.ready(self._manager.summary())
            log.info("ready: %s", self._manager.summary())
            self._begin(self._manager.restore(), "restore")
            self._begin(self._manager.prepare(), "prepare")
            if interval := watchdog_interval(os.environ):
                self._begin(self._watch(interval), "watchdog")
            await self._stop.wait()
        finally:
            await self._end()

    async def _end(self) -> None:
        """Leave, as far as it can be done: what fails keeps nothing else from it."""
        self._notifier.stopping()
        log.info("stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await take_all_async(self._control.stop, self._socket.remove, self._manager.stop)

    def _may_use_readers(self, connected: socket.socket) -> bool:
        return self._settings.pcsc.everyone or self._users.admits(peer_of(connected))

    def _begin(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: %s", task.get_name(), error, exc_info=error)

    async def _watch(self, interval: float) -> None:
        while True:
            self._notifier.watchdog()
            await asyncio.sleep(interval)

    def _tell(self) -> None:
        self._notifier.status(self._manager.summary())

    # -- reload --------------------------------------------------------------------------------

    def _reload_soon(self) -> None:
        self._begin(self._reload(), "reload")

    async def _reload(self) -> None:
        """Read the settings again; unfit ones change nothing."""
        async with self._reloads:
            await self._read_again()

    async def _read_again(self) -> None:
        self._notifier.reloading()
        try:
            settings = config_files.load(self._directories.configuration, self._overrides)
            await self._manager.apply(settings)
            # The group's name may have to be asked for far away.
            await asyncio.to_thread(self._socket.share, settings.control)
            control, users = settings.control.group, settings.pcsc.group
            access = await asyncio.to_thread(Access, control)
            self._users = await asyncio.to_thread(Access, users) if users else access
            self._apply(settings, access)
            log.info("settings read again: %s", self._manager.summary())
            status = self._manager.summary()
        except VccidError as error:
            log.error("the settings stay as they were: %s; %s", error.message, error.hint)
            status = f"settings unfit: {error.message}"
        except Exception as error:  # no thread, no memory: the daemon goes on, and says so
            log.exception("the settings could not be read again")
            status = f"settings not read: {unexpected(error).message}"
        self._notifier.ready(status)

    def _apply(self, settings: Settings, access: Access) -> None:
        """What concerns the daemon itself."""
        daemon_logging.set_level(settings.log.level)
        self._control.access = access
        self._methods.settings = settings
        self._settings = settings
