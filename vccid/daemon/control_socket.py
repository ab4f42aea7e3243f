# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sockets that the daemon listens at for control: its own, or those systemd has made."""

from __future__ import annotations

import socket
from pathlib import Path

from vccid.daemon import sd_notify, socket_and_lock
from vccid.links.own_file import OwnFile
from vccid.settings.config import Control


class ControlSocket:
    """Where control calls come in.

    Attributes:
        place: its path, as people are told it.
    """

    def __init__(self, path: Path, handed: tuple[socket.socket, ...]) -> None:
        """
        Args:
            path: of one of our own.
            handed: those systemd made; none to make one.
        """
        self.place = sd_notify.path_of(handed) or path
        self._path = path
        self._handed = handed
        self._file: OwnFile | None = None

    def open(self, settings: Control) -> tuple[socket.socket, ...]:
        """Those to listen at.

        Raises:
            ConfigError: it cannot be made.
        """
        if self._handed:
            return self._handed
        made = socket_and_lock.make_socket(self._path)
        self._file = OwnFile(self._path)
        self.share(settings)
        return (made,)

    def share(self, settings: Control) -> None:
        """Let others connect as the settings want it; systemd's socket is systemd's affair.

        Raises:
            ConfigError: the mode cannot be set.
        """
        if not self._handed:
            socket_and_lock.share(self._path, settings.group, int(settings.mode, 8))

    def remove(self) -> None:
        """Take its file away, where it is ours still."""
        if self._file is not None:
            self._file.remove()
