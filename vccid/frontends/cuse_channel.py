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
import itertools
import logging
import os
import select
import time
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
#: The number a device asks for that takes any.
_ANY: Final = (0, 0)
#: Seconds udev may take to give a new node its owner and mode, and between two looks.
_UDEV_TIMEOUT: Final = 3.0
_UDEV_POLL: Final = 0.02
#: Seconds by which a file's time may lie before the clock's: a tick of 100 Hz.
_CLOCK_TICK: Final = 0.01

_LOAD: Final = "load it: modprobe cuse (and at every start: /etc/modules-load.d)"
_PERMIT: Final = (
    "with the package's udev rule: modprobe cuse && udevadm trigger /dev/cuse;"
    " else see docs/device-node.md"
)


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


class DeviceNumbers:
    """Device numbers for all our devices, of one major: the kernel has but some 150 to give."""

    def __init__(self) -> None:
        self._major = 0
        self._minors: set[int] = set()

    def free(self) -> tuple[int, int]:
        """The number to ask for; another process may have it."""
        if not self._minors:
            return _ANY
        return self._major, next(n for n in itertools.count() if n not in self._minors)

    def take(self, number: tuple[int, int]) -> None:
        """It became a device's."""
        if not self._minors:
            self._major = number[0]
        if number[0] == self._major:
            self._minors.add(number[1])

    def give_back(self, number: tuple[int, int]) -> None:
        """Its device is gone."""
        if number[0] == self._major:
            self._minors.discard(number[1])


_numbers = DeviceNumbers()


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
        self._number = _ANY
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
        begun = time.time() - _CLOCK_TICK
        wanted = _numbers.free()
        try:
            self._make(wanted)
        except ReaderError:
            if wanted == _ANY:
                raise
            self._make(_ANY)
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)
        try:
            await self._wait_for_udev(begun)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take the device away; calls that wait fail with ENODEV. May be repeated."""
        if self._descriptor < 0:
            return
        asyncio.get_running_loop().remove_reader(self._descriptor)
        for unique in tuple(self._running):
            self._give_up(unique, errno.ENODEV)
        os.close(self._descriptor)
        self._descriptor = -1
        _numbers.give_back(self._number)
        self._number = _ANY
        files, self._files = self._files, {}
        for file, _ in files.values():
            file.release()

    # -- the beginning -------------------------------------------------------------------

    def _make(self, number: tuple[int, int]) -> None:
        self._descriptor = self._connect()
        try:
            self._greet(number)
        except BaseException:
            os.close(self._descriptor)
            self._descriptor = -1
            raise
        try:
            text = (_SYSFS / self.name.replace("/", "!") / "dev").read_text()
        except OSError:
            return
        major, _, minor = text.strip().partition(":")
        self._number = int(major), int(minor)
        _numbers.take(self._number)

    def _greet(self, number: tuple[int, int]) -> None:
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
                fuse.reply_init(request, name, unrestricted=self._unrestricted, number=number),
            )
        except OSError as error:
            raise refused from error
        except RemoteProtocolError as error:
            raise ReaderError(f"{CUSE}: {error.message}") from error
        state = select.poll()
        state.register(self._descriptor, select.POLLIN)
        if any(events & select.POLLERR for _, events in state.poll(0)):
            raise refused

    async def _wait_for_udev(self, since: float) -> None:
        """Until udev has let in whoever its rules let in; not where there is no udev.

        It then writes the device's file in its database; an older one is of an earlier device.
        """
        if self._number == _ANY:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _UDEV_TIMEOUT
        entry = _UDEV / "data" / "c{}:{}".format(*self._number)
        while (_UDEV / "control").exists() and not _written_since(entry, since):
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


def _written_since(path: Path, begin: float) -> bool:
    try:
        return path.stat().st_mtime >= begin
    except FileNotFoundError:
        return False


def _error_number(error: Exception) -> int:
    """A caller must have an answer, even to a slip of ours."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    log.error("a request of the kernel failed", exc_info=error)
    return errno.EIO
