# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sockets where programs of PC/SC find readers without pcscd, and which readers at which."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vccid.frontends.pcsc.listening import listen_at
from vccid.frontends.pcsc.registry import Registry
from vccid.frontends.pcsc.server import PcscServer
from vccid.reader import Reader
from vccid.settings.config import Pcsc

if TYPE_CHECKING:
    from vccid.frontends.pin_pad import PinPad


@dataclass(slots=True)
class _Door:
    server: PcscServer
    readers: set[Reader]


class Doors:
    """One server for each socket; the usual one stays once there has been a reader."""

    def __init__(
        self, usual: Path, settings: Pcsc, may_use: Callable[[socket.socket], bool]
    ) -> None:
        """Args: usual: the socket where none is named."""
        self.usual = usual
        self._settings = settings
        self._may_use = may_use
        self._doors: dict[Path, _Door] = {}

    def apply(self, settings: Pcsc) -> None:
        """Take new settings; what programs see grows with them, and never shrinks."""
        self._settings = settings
        for door in self._doors.values():
            door.server.most = settings.connections
            registry = door.server.registry
            registry.entries = max(registry.entries, settings.readers)

    def add(self, path: Path, reader: Reader, serial: str, pin_pad: PinPad | None) -> None:
        """Show a reader at a socket.

        Raises:
            ConfigError: it cannot listen there.
        """
        door = self._doors.get(path)
        if door is None:
            door = self._doors[path] = _Door(self._opened(path), set())
        door.server.add(reader, serial, pin_pad)
        door.readers.add(reader)

    def remove(self, path: Path, reader: Reader) -> None:
        """Show it there no longer. May be repeated."""
        door = self._doors.get(path)
        if door is None or reader not in door.readers:
            return
        door.readers.discard(reader)
        door.server.remove(reader)
        if not door.readers and path != self.usual:
            self._close(path)

    def programs(self, path: Path) -> int:
        """How many contexts are open there."""
        door = self._doors.get(path)
        return 0 if door is None else door.server.programs

    def stop(self) -> None:
        """Let every program go."""
        for path in tuple(self._doors):
            self._close(path)

    def _opened(self, path: Path) -> PcscServer:
        settings = self._settings
        registry = Registry(settings.old_readers, settings.readers)
        listener = listen_at(path)
        server = PcscServer(registry, self._may_use, settings.connections)
        server.start(listener)
        return server

    def _close(self, path: Path) -> None:
        self._doors.pop(path).server.stop()
        path.unlink(missing_ok=True)


class PcscFrontend:
    """One reader's part in a socket."""

    def __init__(
        self,
        reader: Reader,
        serial: str,
        pin_pad: PinPad | None,
        doors: Doors,
        path: Path,
    ) -> None:
        """Args: path: of the socket."""
        self._reader = reader
        self._serial = serial
        self._pin_pad = pin_pad
        self._doors = doors
        self._path = path

    @property
    def status(self) -> str:
        programs = self._doors.programs(self._path)
        return f"{self._path}, {programs} program{'' if programs == 1 else 's'}"

    async def start(self) -> None:
        self._doors.add(self._path, self._reader, self._serial, self._pin_pad)

    async def stop(self) -> None:
        self._doors.remove(self._path, self._reader)
