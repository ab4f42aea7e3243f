# SPDX-License-Identifier: LGPL-2.1-or-later
"""A character device of this host that we answer for: one open /dev/cuse is one device.

The kernel makes the node when the handshake is done, and hands over each system call on it as
a request. It takes the node away when the channel closes, however we end. A caller whose
request was read stays until it is answered, SIGKILL or not: every request is answered here,
whatever a handler does, and an interrupt is heeded.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

from vccid.errors import NotPermitted, ReaderError, RemoteProtocolError
from vccid.wire import fuse

log = logging.getLogger(__name__)

T = TypeVar("T")

CUSE: Final = Path("/dev/cuse")

_SYSFS: Final = Path("/sys/class/cuse")
_UDEV: Final = Path("/run/udev")
#: Seconds udev may take to give a new node its owner and mode, and between two looks.
_UDEV_TIMEOUT: Final = 3.0
_UDEV_POLL: Final = 0.02

_LOAD: Final = "load it: modprobe cuse (and at every start: /etc/modules-load.d)"
_PERMIT: Final = "give it to the daemon's user: see docs/device-node.md, or install the udev rule"


def open_cuse(path: Path = CUSE) -> int:
    """A new channel's descriptor.

    Raises:
        ReaderError: the kernel has no CUSE.
        NotPermitted: it is closed to the daemon.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotPermitted(f"{path} is closed to the daemon", _PERMIT) from error
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise ReaderError("this kernel's module cuse is not loaded", _LOAD) from error
        raise ReaderError(f"{path}: {error.strerror}") from error


class CuseFile(ABC):
    """An open file. A method answers at once, or with an awaitable where it must wait.

    An awaitable is cancelled when a signal comes for the caller: it takes what is there, and
    changes anything, only after it has waited for the last time. To fail, raise OSError with
    an error number.
    """

    @abstractmethod
    def read(self, size: int, wait: bool) -> bytes | Awaitable[bytes]:
        """At most `size` bytes; not `wait`: O_NONBLOCK, EAGAIN where there is nothing."""

    @abstractmethod
    def write(self, data: bytes, wait: bool) -> int | Awaitable[int]:
        """How many bytes were taken; `data` has at most fuse.MAX_TRANSFER."""

    @abstractmethod
    def ioctl(self, request: fuse.Ioctl) -> fuse.IoctlAnswer | Awaitable[fuse.IoctlAnswer]:
        """ENOTTY where there is no such command."""

    @abstractmethod
    def poll(self) -> int:
        """What is ready now, in poll(2)'s bits."""

    @abstractmethod
    def release(self) -> None:
        """The last descriptor is closed, or the channel. What waits is cancelled besides."""


#: Makes the file of an open(2). Its second argument is to be called when `poll` would say more.
Opener = Callable[[fuse.Open, Callable[[], None]], CuseFile | Awaitable[CuseFile]]


class CuseChannel:
    """One device and its open files.

    Attributes:
        name: of the node below /dev.
    """

    def __init__(
        self,
        name: str,
        opener: Opener,
        lost: Callable[[], None] = lambda: None,
        *,
        unrestricted: bool = False,
        connect: Callable[[], int] = open_cuse,
    ) -> None:
        """
        Args:
            opener: makes a file for each open(2); fails with OSError, never with ENOSYS.
            lost: the kernel ended it (somebody wrote to `abort`); not called after `close`.
            unrestricted: see fuse.reply_init.
            connect: opens /dev/cuse.
        """
        self.name = name
        self._opener = opener
        self._lost = lost
        self._unrestricted = unrestricted
        self._connect = connect
        self._descriptor = -1
        self._buffer = memoryview(bytearray(fuse.MAX_REQUEST))
        self._files: dict[int, tuple[CuseFile, _Pollers]] = {}
        self._last_fh = 0
        self._running: dict[int, asyncio.Task[None]] = {}

    @property
    def path(self) -> Path:
        """The node."""
        return Path("/dev") / self.name

    async def start(self) -> None:
        """Make the device; it can be opened when this returns, by those udev lets.

        Raises:
            ReaderError: the kernel has no CUSE, or does not take the device.
            NotPermitted: /dev/cuse is closed to the daemon.
        """
        self._descriptor = self._connect()
        try:
            self._greet()
        except BaseException:
            os.close(self._descriptor)
            self._descriptor = -1
            raise
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)
        await self._wait_for_udev()

    def close(self) -> None:
        """Take the device away; calls that wait fail with ENODEV. May be repeated."""
        if self._descriptor < 0:
            return
        asyncio.get_running_loop().remove_reader(self._descriptor)
        for unique in tuple(self._running):
            self._give_up(unique, errno.ENODEV)
        os.close(self._descriptor)
        self._descriptor = -1
        files, self._files = self._files, {}
        for file, _ in files.values():
            file.release()

    # -- the beginning -------------------------------------------------------------------

    def _greet(self) -> None:
        """The kernel asks as /dev/cuse is opened, and makes the device within our write."""
        refused = ReaderError(
            f"the kernel does not make {self.path}",
            "another device has this name, or no device number is free; the kernel's log says why",
        )
        try:
            request = fuse.parse(os.read(self._descriptor, fuse.MAX_REQUEST))
            if not isinstance(request, fuse.Init):
                raise RemoteProtocolError(f"{type(request).__name__} came before CUSE_INIT")
            name = self.name.replace("/", "!")
            os.write(
                self._descriptor,
                fuse.reply_init(request, name, unrestricted=self._unrestricted),
            )
        except OSError as error:
            raise refused from error
        except RemoteProtocolError as error:
            raise ReaderError(f"{CUSE}: {error.message}") from error
        state = select.poll()
        state.register(self._descriptor, select.POLLIN)
        if any(events & select.POLLERR for _, events in state.poll(0)):
            raise refused

    async def _wait_for_udev(self) -> None:
        """Until udev has let in whoever its rules let in; not where there is no udev."""
        try:
            number = (_SYSFS / self.name.replace("/", "!") / "dev").read_text().strip()
        except OSError:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _UDEV_TIMEOUT
        while (_UDEV / "control").exists() and not (_UDEV / "data" / f"c{number}").exists():
            if loop.time() > deadline:
                log.warning("udev has not looked at %s yet", self.path)
                return
            await asyncio.sleep(_UDEV_POLL)

    # -- requests ------------------------------------------------------------------------

    def _readable(self) -> None:
        """One request for each wake-up: a caller seldom has the next one ready."""
        try:
            size = os.readv(self._descriptor, [self._buffer])
        except OSError as error:
            # ENOENT: the caller was killed before the request could be read.
            if error.errno not in (errno.EAGAIN, errno.ENOENT, errno.EINTR):
                self._end()
            return
        try:
            request = fuse.parse(self._buffer[:size])
        except RemoteProtocolError as error:
            log.error("the kernel: %s", error.message)
            self._end()
            return
        self._handle(request)

    def _handle(self, request: fuse.Request) -> None:
        if isinstance(request, fuse.Interrupt):
            self._give_up(request.victim, errno.EINTR)
        elif isinstance(request, fuse.Open):
            self._open_file(request)
        elif isinstance(request, fuse.Init | fuse.Unknown):
            self._send(fuse.refuse(request.unique, errno.ENOSYS))
        elif request.fh not in self._files:
            self._send(fuse.refuse(request.unique, errno.EBADF))
        else:
            self._handle_file(request, *self._files[request.fh])

    def _handle_file(
        self,
        request: fuse.Read | fuse.Write | fuse.Ioctl | fuse.Poll | fuse.Release,
        file: CuseFile,
        pollers: _Pollers,
    ) -> None:
        unique = request.unique
        if isinstance(request, fuse.Read):
            wait = not request.flags & os.O_NONBLOCK
            self._answer(unique, lambda: file.read(request.size, wait), fuse.reply_read)
        elif isinstance(request, fuse.Write):
            wait = not request.flags & os.O_NONBLOCK
            self._answer(unique, lambda: file.write(request.data, wait), fuse.reply_write)
        elif isinstance(request, fuse.Ioctl):
            self._answer(unique, lambda: file.ioctl(request), fuse.reply_ioctl)
        elif isinstance(request, fuse.Poll):
            if request.notify:
                pollers.kh = request.kh
            self._answer(unique, file.poll, fuse.reply_poll)
        else:
            del self._files[request.fh]
            try:
                file.release()
            finally:
                self._send(fuse.reply_release(unique))

    def _open_file(self, request: fuse.Open) -> None:
        pollers = _Pollers(self._send)

        def opened(unique: int, file: CuseFile) -> bytes:
            self._last_fh += 1
            self._files[self._last_fh] = file, pollers
            return fuse.reply_open(unique, self._last_fh)

        self._answer(request.unique, lambda: self._opener(request, pollers.wake), opened)

    # -- answers -------------------------------------------------------------------------

    def _answer(
        self,
        unique: int,
        operation: Callable[[], T | Awaitable[T]],
        reply: Callable[[int, T], bytes],
    ) -> None:
        """Answer at once, or when the operation's awaitable is done."""
        try:
            result = operation()
            if isinstance(result, Awaitable):
                later = self._answer_later(unique, result, reply)
                self._running[unique] = asyncio.get_running_loop().create_task(later)
                return
            message = reply(unique, result)
        except Exception as error:
            message = fuse.refuse(unique, _error_number(error))
        self._send(message)

    async def _answer_later(
        self, unique: int, awaitable: Awaitable[T], reply: Callable[[int, T], bytes]
    ) -> None:
        # Nothing is awaited between the result and the write: what was taken is not lost.
        try:
            message = reply(unique, await awaitable)
        except Exception as error:
            message = fuse.refuse(unique, _error_number(error))
        if self._running.pop(unique, None) is not None:
            self._send(message)

    def _give_up(self, unique: int, number: int) -> None:
        """End an operation that waits; one that was answered already is none any more."""
        task = self._running.pop(unique, None)
        if task is not None:
            self._send(fuse.refuse(unique, number))
            task.cancel()

    def _send(self, message: bytes) -> None:
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, message)
        except OSError as error:
            # ENOENT: the kernel gave the request up. ENODEV: the next read will say so too.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                log.error("the kernel refused %d bytes: %s", len(message), error.strerror)

    def _end(self) -> None:
        """The kernel ended the connection."""
        self.close()
        self._lost()


class _Pollers:
    """Those who poll one file; the kernel has one handle for them all.

    Attributes:
        kh: the kernel's handle while it wants to hear of a change.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.kh: int | None = None
        self._send = send

    def wake(self) -> None:
        """Have them look again."""
        kh, self.kh = self.kh, None
        if kh is not None:
            self._send(fuse.notify_poll(kh))


def _error_number(error: Exception) -> int:
    """A caller must have an answer, even to a slip of ours."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    log.error("a request of the kernel failed", exc_info=error)
    return errno.EIO
