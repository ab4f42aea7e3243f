# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd is told, and what it hands over at start: notifications, watchdog, sockets.

Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import time
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Final

from sdnotify import SystemdNotifier

from vccid.errors import ConfigError

log = logging.getLogger(__name__)

#: What systemd calls a socket that is meant for us: by vccid.socket, or where nothing is said.
_OUR_NAMES: Final = ("control", "unknown", "", "vccid.socket")

#: SD_LISTEN_FDS_START
_FIRST_FD: Final = 3


class Notifier:
    """Tells the service manager, if there is one."""

    def __init__(self) -> None:
        self._notifier = SystemdNotifier()
        # A manager that stopped reading must not stop the daemon: what finds no room is lost.
        if self._notifier.socket is not None:
            self._notifier.socket.setblocking(False)

    def ready(self, status: str) -> None:
        """Start-up, or the reload announced before, is done."""
        self._send(f"READY=1\nSTATUS={_ascii(status)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_ascii(status)}")

    def reloading(self) -> None:
        """The settings are about to be read again (sd_notify(3): with CLOCK_MONOTONIC, in µs)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1\nSTATUS=Stopping")

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        self._notifier.notify(state)


def _ascii(text: str) -> str:
    """One line; sdnotify drops a message that is not Latin-1 without a word."""
    return text.encode("ascii", "replace").decode("ascii").replace("\n", " ")


def watchdog_interval(environ: MutableMapping[str, str]) -> float | None:
    """Seconds between two signs of life, half of what the manager waits; None without watchdog."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6 / 2


def control_sockets(environ: MutableMapping[str, str]) -> tuple[socket.socket, ...]:
    """The listening sockets systemd made for us; the variables are used up.

    To be asked before anything is opened, lest a wrong LISTEN_FDS count that in. Whatever its
    name, a socket somebody may connect to is served: one let go of would keep its clients
    waiting for as long as systemd holds it.

    Raises:
        ConfigError: there are fewer, or one called control listens for no unix streams.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal() or pid != str(os.getpid()):
        return ()
    found: list[socket.socket] = []
    for index in range(int(count)):
        fd, name = _FIRST_FD + index, names[index] if index < len(names) else ""
        _check_socket(fd, int(count))
        handed = socket.socket(fileno=fd)
        handed.set_inheritable(False)
        if _listens(handed):
            found.append(handed)
        elif name in _OUR_NAMES:
            raise ConfigError(
                "the socket handed over by systemd is no listening unix stream socket",
                "give vccid.socket nothing but ListenStream= with absolute paths",
            )
        else:
            log.warning("the socket %s that systemd handed over is none of ours", name)
            handed.close()
    return tuple(found)


def path_of(handed: Iterable[socket.socket]) -> Path | None:
    """Where clients find the first socket that has a path."""
    # Python names an abstract one in bytes, and one without a name "".
    names = (each.getsockname() for each in handed)
    return next((Path(name) for name in names if isinstance(name, str) and name), None)


def _check_socket(fd: int, count: int) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except (OSError, OverflowError):
        is_socket = False
    if not is_socket:
        raise ConfigError(
            f"LISTEN_FDS promises {count} sockets, and file descriptor {fd} is none",
            "let systemd set it, by vccid.socket, or leave it out",
        )


def _listens(handed: socket.socket) -> bool:
    return (
        handed.family == socket.AF_UNIX
        and handed.type == socket.SOCK_STREAM
        and bool(handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )
