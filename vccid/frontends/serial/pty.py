# SPDX-License-Identifier: LGPL-2.1-or-later
"""A serial reader at a pseudo-terminal: where there is no CUSE, and no right is needed.

The other end is found by a link, since its own name, /dev/pts/N, is another one at each start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import grp
import logging
import os
import select
import struct
import termios
import tty
from pathlib import Path
from typing import Final

from vccid.errors import ConfigError
from vccid.frontends.pin_pad import PinPad
from vccid.frontends.serial.serial_reader import SerialReader
from vccid.process.cleanup import take_all
from vccid.reader import Reader

log = logging.getLogger(__name__)

#: Bytes read at once; a packet's first byte tells what it is (ioctl_tty(2), TIOCPKT).
_PACKET: Final = 4096
#: Bytes that may wait for a host that does not read before it is not heard any more.
MOST_UNSENT: Final = 4096
_DEVPTS: Final = "/dev/pts/"


class PtyFrontend:
    """Shows one reader at a pseudo-terminal.

    Attributes:
        path: of the link to the terminal.
        line: the reader at it.
    """

    def __init__(
        self,
        reader: Reader,
        path: Path,
        *,
        pin_pad: PinPad | None = None,
        group: str = "",
        mode: int = 0o660,
    ) -> None:
        """`group` and `mode` are the terminal's; an empty group is the daemon's own.

        Raises:
            ConfigError: libccidtwin could not open this path.
        """
        if ":" in str(path):
            raise ConfigError(
                f"{path} cannot be a reader's terminal: it has a colon",
                "in reader.conf what follows a colon is the kind of reader",
            )
        self.path = path
        self.line = SerialReader("pty", reader, pin_pad, self._send)
        self._name = reader.name
        self._group = group
        self._mode = mode
        self._terminal = ""
        self._master = -1
        self._events: select.epoll | None = None
        self._unsent = bytearray()

    @property
    def status(self) -> str:
        """How it stands, for people."""
        return f"{self.path}, {self.line.status}"

    async def start(self) -> None:
        """Make the terminal and the link to it.

        Raises:
            ConfigError: there is none to be had, or the link cannot be made.
        """
        # Who knows the group may be far away.
        group = await asyncio.to_thread(self._group_id) if self._group else os.getegid()
        try:
            self._master, terminal = os.openpty()
        except OSError as error:
            raise ConfigError(
                f"no pseudo-terminal is to be had: {error.strerror}",
                "/dev/ptmx and /dev/pts must be there, and open to the daemon",
            ) from error
        try:
            self._prepare(terminal, group)
            self._link()
        except BaseException:
            os.close(self._master)
            self._master = -1
            raise
        finally:
            os.close(terminal)
        # With edges, not levels: while nobody has the terminal open the master is hung up, and
        # says so without end.
        self._events = select.epoll()
        self._events.register(
            self._master, select.EPOLLIN | select.EPOLLOUT | select.EPOLLHUP | select.EPOLLET
        )
        asyncio.get_running_loop().add_reader(self._events.fileno(), self._ready)

    async def stop(self) -> None:
        """Hang up, and take the link away. May be repeated."""
        if self._events is None:
            return
        asyncio.get_running_loop().remove_reader(self._events.fileno())
        self._events.close()
        self._events = None
        take_all(self.line.close, self._unlink)
        os.close(self._master)
        self._master = -1

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            if os.readlink(self.path) == self._terminal:
                self.path.unlink()

    # -- the terminal --------------------------------------------------------------------

    def _group_id(self) -> int:
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError as error:
            raise ConfigError(
                f"there is no group {self._group}", "see pty.group in vccid.toml(5)"
            ) from error

    def _prepare(self, terminal: int, group: int) -> None:
        self._terminal = os.ttyname(terminal)
        tty.setraw(terminal)
        os.set_blocking(self._master, False)
        fcntl.ioctl(self._master, termios.TIOCPKT, struct.pack("i", 1))
        try:
            os.fchown(terminal, -1, group)
            os.fchmod(terminal, self._mode)
        except OSError as error:
            raise ConfigError(
                f"{self._terminal} cannot be given to group {self._group or os.getegid()}: "
                f"{error.strerror}",
                "the daemon's user must be a member of it, and its sandbox allow fchown",
            ) from error

    def _link(self) -> None:
        """In place of the link a killed daemon left, and of nothing else."""
        try:
            if self.path.is_symlink():
                there = os.readlink(self.path)
                if not there.startswith(_DEVPTS):
                    raise ConfigError(f"{self.path} leads to {there}", "name another path")
            elif os.path.lexists(self.path):
                raise ConfigError(f"{self.path} is in the way", "move it, or name another path")
            fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._terminal)
            fresh.replace(self.path)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be made a link to the terminal: {error.strerror}",
                "name a path in a directory the daemon may write to",
            ) from error

    # -- bytes ---------------------------------------------------------------------------

    def _ready(self) -> None:
        if self._events is not None and self._events.poll(0):
            self._write()
            self._read()

    def _read(self) -> None:
        """Everything there is: the next edge tells of new bytes only."""
        while self._master >= 0 and len(self._unsent) < MOST_UNSENT:
            try:
                packet = os.read(self._master, _PACKET)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._closed()
                return
            self._take(packet)

    def _take(self, packet: bytes) -> None:
        if not self.line.is_open:
            self.line.open(str(self.path))
        if packet[0] == termios.TIOCPKT_DATA:
            self.line.receive(packet[1:])
        elif packet[0] & (termios.TIOCPKT_FLUSHREAD | termios.TIOCPKT_FLUSHWRITE):
            self._unsent.clear()
            self.line.flush()

    def _closed(self) -> None:
        """Nobody has the terminal open any more."""
        self._unsent.clear()
        self.line.close()

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._write()

    def _write(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._master, self._unsent)]
        except BlockingIOError:
            pass  # an edge tells when there is room
        except OSError as error:
            log.warning("%s: %s", self.path, error.strerror, extra={"reader": self._name})
            self._unsent.clear()
