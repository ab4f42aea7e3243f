# SPDX-License-Identifier: LGPL-2.1-or-later
"""A serial reader at a terminal of the kernel's making: /dev/ttyVCCID<n>, by CUSE.

To programs it is a serial port that is set raw and knows no other mode: what they set they read
back, and nothing else comes of it. As on any port all who have it open share one line.
"""

from __future__ import annotations

import asyncio
import errno
import select
import struct
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vccid.errors import NotPermitted, ReaderError
from vccid.frontends.cuse_channel import CuseChannel, CuseFile, open_cuse
from vccid.frontends.pin_pad import PinPad
from vccid.frontends.serial.serial_reader import SerialReader
from vccid.process.cleanup import take_all
from vccid.reader import Reader
from vccid.wire import fuse

#: Bytes that may wait for a host that does not read before it may write no more.
MOST_UNREAD: Final = 4096

#: struct termios2 (asm-generic/termbits.h): c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc,
#: c_ispeed, c_ospeed. struct termios is the same without the speeds.
_TERMIOS2: Final = struct.Struct("=IIIIB19sII")
_TERMIOS_SIZE: Final = 36
_VTIME, _VMIN = 5, 6
#: Raw, 8 bits, 115,200 bit/s, no modem's signals; a read waits for one byte.
_RAW: Final = _TERMIOS2.pack(
    0, 0, termios.CS8 | termios.CREAD | termios.CLOCAL | termios.B115200, 0, 0,
    bytes(_VMIN) + b"\x01" + bytes(12), 115_200, 115_200,
)  # fmt: skip
#: TIOCMGET at first: carrier, clear to send, data set ready, and the host's own RTS and DTR.
_SIGNALS: Final = (
    termios.TIOCM_CAR | termios.TIOCM_CTS | termios.TIOCM_DSR | termios.TIOCM_RTS
    | termios.TIOCM_DTR
)  # fmt: skip
_INT: Final = struct.Struct("=i")
_WINSIZE: Final = struct.Struct("=HHHH")

# asm-generic/ioctls.h; Python's termios has not all of them.
_TCGETS2: Final = 0x802C542A
_TCSETS2: Final = (0x402C542B, 0x402C542C, 0x402C542D)
_TIOCSBRK, _TIOCCBRK, _TIOCGEXCL = 0x5427, 0x5428, 0x80045440
_TCSETS: Final = (termios.TCSETS, termios.TCSETSW, termios.TCSETSF)
#: Those that wait for what was written, or hold it up: it has gone by then.
_NOTHING_TO_DO: Final = frozenset(
    (termios.TCSBRK, termios.TCSBRKP, termios.TCXONC, _TIOCSBRK, _TIOCCBRK)
)


class TtyFrontend:
    """Shows one reader as a terminal.

    Attributes:
        line: the reader at it.
    """

    def __init__(
        self,
        reader: Reader,
        path: Path,
        lost: Callable[[], None] = lambda: None,
        *,
        pin_pad: PinPad | None = None,
        connect: Callable[[], int] = open_cuse,
    ) -> None:
        """
        Args:
            path: /dev/ttyVCCID<n>.
            lost: the kernel took the device away by itself.
            connect: opens /dev/cuse.
        """
        self.line = SerialReader("tty", reader, pin_pad, self._send)
        self._port = _Port()
        self._files: dict[_File, Callable[[], None]] = {}
        self._unread = bytearray()
        self._waiting: list[asyncio.Future[None]] = []
        self._channel = CuseChannel(
            str(path.relative_to("/dev")), self._open, lost, unrestricted=True, connect=connect
        )

    @property
    def path(self) -> Path:
        """The device."""
        return self._channel.path

    @property
    def status(self) -> str:
        """How it stands, for people."""
        return f"{self.path}, {self.line.status}"

    async def start(self) -> None:
        """Make the device.

        Raises:
            ReaderError: the kernel has no CUSE, or has a device of this name.
            NotPermitted: /dev/cuse is closed to the daemon.
        """
        try:
            await self._channel.start()
        except (ReaderError, NotPermitted) as error:
            hint = f"{error.hint}; or vccidctl attach pty, which does without"
            raise type(error)(error.message, hint) from error

    async def stop(self) -> None:
        """Take the device away. May be repeated."""
        take_all(self._channel.close, self.line.close)

    # -- the line ------------------------------------------------------------------------

    def _open(self, request: fuse.Open, wake: Callable[[], None]) -> CuseFile:
        if self._port.exclusive and request.uid != 0:
            raise OSError(errno.EBUSY, "somebody has it alone")
        file = _File(self)
        if not self._files:
            self.line.open(f"pid {request.pid}")
        self._files[file] = wake
        return file

    def release(self, file: _File) -> None:
        """The last one to leave hangs up."""
        self._files.pop(file, None)
        if not self._files:
            self.line.close()
            self._unread.clear()
            self._port = _Port()

    def _send(self, data: bytes) -> None:
        self._unread += data
        self._changed()

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        for wake in self._files.values():
            wake()

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    # -- calls ---------------------------------------------------------------------------

    def read(self, size: int, wait: bool) -> bytes | Awaitable[bytes]:
        """At least one byte; where VMIN is 0 none after VTIME (termios(3))."""
        if self._unread or not size:
            return self._take(size)
        patience = self._port.patience
        if patience == 0:
            return b""
        if not wait:
            raise BlockingIOError(errno.EAGAIN, "nothing to read")
        return self._read_later(size, patience)

    async def _read_later(self, size: int, patience: float | None) -> bytes:
        try:
            async with asyncio.timeout(patience):
                while not self._unread:
                    await self._change()
        except TimeoutError:
            return b""
        return self._take(size)

    def _take(self, size: int) -> bytes:
        was_full = len(self._unread) >= MOST_UNREAD
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        if was_full:
            self._changed()
        return taken

    def write(self, data: bytes, wait: bool) -> int | Awaitable[int]:
        """All of it, once the host has read what was answered before."""
        if len(self._unread) < MOST_UNREAD:
            self.line.receive(data)
            return len(data)
        if not wait:
            raise BlockingIOError(errno.EAGAIN, "too much is unread")
        return self._write_later(data)

    async def _write_later(self, data: bytes) -> int:
        while len(self._unread) >= MOST_UNREAD:
            await self._change()
        self.line.receive(data)
        return len(data)

    def poll(self) -> int:
        """What would not wait."""
        ready = select.POLLIN | select.POLLRDNORM if self._unread else 0
        if len(self._unread) < MOST_UNREAD:
            ready |= select.POLLOUT | select.POLLWRNORM
        return ready

    def ioctl(self, request: fuse.Ioctl) -> fuse.IoctlAnswer:
        """A serial port's (ioctl_tty(2)); the kernel is first asked for the caller's memory."""
        command, port = request.command, self._port
        if command in _NOTHING_TO_DO:
            return fuse.IoctlResult()
        if command == termios.TCFLSH:
            return self._flush(request.argument)
        if command in (termios.TIOCEXCL, termios.TIOCNXCL):
            port.exclusive = command == termios.TIOCEXCL
            return fuse.IoctlResult()
        if command in (termios.FIONREAD, termios.TIOCOUTQ):
            count = len(self._unread) if command == termios.FIONREAD else 0
            return _give(request, _INT.pack(count))
        if (answer := port.get(command)) is not None:
            return _give(request, answer)
        if (size := port.size(command)) and len(request.data) < size:
            return fuse.IoctlRetry(inputs=[(request.argument, size)])
        if not size:
            raise OSError(errno.ENOTTY, "no such ioctl")
        port.set(command, request.data)
        if command in (termios.TCSETSF, _TCSETS2[2]):
            self._drop()
        return fuse.IoctlResult()

    def _flush(self, queue: int) -> fuse.IoctlAnswer:
        if queue not in (termios.TCIFLUSH, termios.TCOFLUSH, termios.TCIOFLUSH):
            raise OSError(errno.EINVAL, "no such queue")
        self._drop()
        return fuse.IoctlResult()

    def _drop(self) -> None:
        self._unread.clear()
        self.line.flush()
        self._changed()


class _File(CuseFile):
    """One who has the terminal open."""

    def __init__(self, terminal: TtyFrontend) -> None:
        self._terminal = terminal

    def read(self, size: int, wait: bool) -> bytes | Awaitable[bytes]:
        return self._terminal.read(size, wait)

    def write(self, data: bytes, wait: bool) -> int | Awaitable[int]:
        return self._terminal.write(data, wait)

    def ioctl(self, request: fuse.Ioctl) -> fuse.IoctlAnswer:
        return self._terminal.ioctl(request)

    def poll(self) -> int:
        return self._terminal.poll()

    def release(self) -> None:
        self._terminal.release(self)


@dataclass(slots=True)
class _Port:
    """What programs set on a port.

    Attributes:
        termios: a struct termios2.
        signals: the modem's, TIOCM_*.
        exclusive: TIOCEXCL: none but root opens it besides.
    """

    termios: bytes = _RAW
    signals: int = _SIGNALS
    exclusive: bool = False

    @property
    def patience(self) -> float | None:
        """Seconds a read waits for its first byte, None where without end."""
        characters = _TERMIOS2.unpack(self.termios)[5]
        return None if characters[_VMIN] else characters[_VTIME] / 10

    def get(self, command: int) -> bytes | None:
        """What a command that asks is answered; None where it does not."""
        if command == termios.TCGETS:
            return self.termios[:_TERMIOS_SIZE]
        if command == _TCGETS2:
            return self.termios
        if command == termios.TIOCMGET:
            return _INT.pack(self.signals)
        if command == _TIOCGEXCL:
            return _INT.pack(self.exclusive)
        if command == termios.TIOCGWINSZ:
            return _WINSIZE.pack(0, 0, 0, 0)
        return None

    @staticmethod
    def size(command: int) -> int:
        """Bytes a command that sets takes; 0 where there is no such command."""
        if command in _TCSETS:
            return _TERMIOS_SIZE
        if command in _TCSETS2:
            return _TERMIOS2.size
        signals = (termios.TIOCMSET, termios.TIOCMBIS, termios.TIOCMBIC)
        return _INT.size if command in signals else 0

    def set(self, command: int, data: bytes) -> None:
        """Take what a command sets."""
        if command in _TCSETS or command in _TCSETS2:
            self.termios = data + self.termios[len(data) :]
            return
        (bits,) = _INT.unpack(data)
        if command == termios.TIOCMBIS:
            bits |= self.signals
        elif command == termios.TIOCMBIC:
            bits = self.signals & ~bits
        self.signals = bits


def _give(request: fuse.Ioctl, answer: bytes) -> fuse.IoctlAnswer:
    if request.out_size < len(answer):
        return fuse.IoctlRetry(outputs=[(request.argument, len(answer))])
    return fuse.IoctlResult(data=answer)
