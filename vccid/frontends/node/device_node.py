# SPDX-License-Identifier: LGPL-2.1-or-later
"""The reader as a device node, /dev/vccid/NAME: a write is a command APDU, a read its response.

docs/device-node.md says what each system call does, include/vccid.h has the ioctls.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
import struct
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final

from vccid.card.card import Session
from vccid.errors import CardBusy, CardRemoved, VccidError
from vccid.frontends.cuse_channel import CuseChannel, CuseFile, open_cuse
from vccid.frontends.node.card_file_states import CARD_FILE, Event, State
from vccid.reader import Host, Reader
from vccid.wire import fuse

log = logging.getLogger(__name__)

#: An extended command APDU (ISO/IEC 7816-4, 5.1): header, three times length, 65,535 bytes.
COMMAND_MAX: Final = 4 + 3 + 65_535 + 2

#: struct vccid_atr: length, bytes
_ATR: Final = struct.Struct("B33s")
#: struct vccid_presence: present, changes
_PRESENCE: Final = struct.Struct("=II")


def _ioctl_number(number: int, read: int = 0) -> int:
    """linux/ioctl.h: _IO, or _IOR with so many bytes."""
    return (2 << 30 if read else 0) | read << 16 | 0xDC << 8 | number


GET_ATR: Final = _ioctl_number(1, _ATR.size)
RESET: Final = _ioctl_number(2)
GET_PRESENCE: Final = _ioctl_number(3, _PRESENCE.size)

_READABLE: Final = select.POLLIN | select.POLLRDNORM
_WRITABLE: Final = select.POLLOUT | select.POLLWRNORM
_GONE: Final = select.POLLHUP | select.POLLERR
#: What poll(2) says of a file with a session, or with one that is over.
_POLL: Final = {
    State.READY: _WRITABLE,
    State.WORKING: 0,
    State.ANSWERED: _READABLE,
    State.OVER: _GONE,
    State.OVER_ANSWERED: _READABLE | _GONE,
}


class CuseFrontend:
    """One reader's node."""

    def __init__(
        self,
        reader: Reader,
        lost: Callable[[], None] = lambda: None,
        connect: Callable[[], int] = open_cuse,
    ) -> None:
        """
        Args:
            lost: the kernel took the node away by itself; not called after `stop`.
            connect: opens /dev/cuse.
        """
        self._reader = reader
        self._channel = CuseChannel(f"vccid/{reader.name}", self._open, lost, connect=connect)

    @property
    def status(self) -> str:
        """How it stands, for people."""
        return str(self._channel.path)

    async def start(self) -> None:
        """Make the node.

        Raises:
            ReaderError, NotPermitted: as CuseChannel.start.
        """
        await self._channel.start()

    async def stop(self) -> None:
        """Take the node away; who has it open learns with the next call."""
        self._channel.close()

    def _open(self, request: fuse.Open, wake: Callable[[], None]) -> CuseFile | Awaitable[CuseFile]:
        peer = f"pid {request.pid}, uid {request.uid}"
        access = request.flags & os.O_ACCMODE
        if access == os.O_RDONLY:
            return _Onlooker(self._reader, peer, wake)
        if access == os.O_RDWR:
            return self._open_card(peer, wake)
        raise OSError(errno.EINVAL, "a response has to be read")

    async def _open_card(self, peer: str, wake: Callable[[], None]) -> CuseFile:
        return _CardFile(self._reader, peer, wake, await _power_on(self._reader))


class _NodeFile(CuseFile, Host):
    """What both kinds of open files share: they hear of the card at once."""

    def __init__(self, reader: Reader, peer: str, wake: Callable[[], None]) -> None:
        self.kind = "cuse"
        self.peer = peer
        self.seen = -1
        self._reader = reader
        self._wake = wake
        reader.attach(self)
        reader.acknowledge(self, reader.generation)

    def card_changed(self) -> None:
        # Any call from now on tells of the change: this is all that there is to see.
        self._wake()
        self._reader.acknowledge(self, self._reader.generation)

    def ioctl(self, request: fuse.Ioctl) -> fuse.IoctlAnswer | Awaitable[fuse.IoctlAnswer]:
        if request.command == GET_ATR:
            atr = self._atr()
            return fuse.IoctlResult(0, _ATR.pack(len(atr), atr))
        if request.command == GET_PRESENCE:
            present = self._reader.card is not None
            return fuse.IoctlResult(0, _PRESENCE.pack(present, self._reader.generation))
        raise OSError(errno.ENOTTY, "no such ioctl")

    def release(self) -> None:
        self._reader.detach(self)

    @abstractmethod
    def _atr(self) -> bytes:
        """The card's answer to reset."""


class _Onlooker(_NodeFile):
    """Opened for reading only: no session, so no card is powered for it or kept from others."""

    def __init__(self, reader: Reader, peer: str, wake: Callable[[], None]) -> None:
        super().__init__(reader, peer, wake)
        self._looked_at = self._reader.generation

    def read(self, size: int, wait: bool) -> bytes:
        raise OSError(errno.EINVAL, "a command cannot have been written")

    def write(self, data: bytes, wait: bool) -> int:
        raise OSError(errno.EBADF, "not open for writing")

    def ioctl(self, request: fuse.Ioctl) -> fuse.IoctlAnswer | Awaitable[fuse.IoctlAnswer]:
        if request.command == RESET:
            raise OSError(errno.EBADF, "not open for writing")
        if request.command == GET_PRESENCE:
            self._looked_at = self._reader.generation
        return super().ioctl(request)

    def poll(self) -> int:
        return 0 if self._looked_at == self._reader.generation else select.POLLPRI

    def _atr(self) -> bytes:
        if self._reader.card is None:
            raise OSError(errno.ENOMEDIUM, "no card")
        return self._reader.card.atr


class _CardFile(_NodeFile):
    """Opened for reading and writing: a session with the card."""

    def __init__(
        self, reader: Reader, peer: str, wake: Callable[[], None], session: Session
    ) -> None:
        super().__init__(reader, peer, wake)
        self._session: Session | None = session
        self._generation = self._reader.generation
        self._state = CARD_FILE.initial
        self._unread = b""
        #: Of the command that ended without a response; told once.
        self._failure = 0
        self._readers: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def card_changed(self) -> None:
        if self._session is not None and self._generation != self._reader.generation:
            self._lose(self._session)
        super().card_changed()

    def release(self) -> None:
        if self._session is not None:
            self._lose(self._session)
        super().release()

    # -- responses -----------------------------------------------------------------------

    def read(self, size: int, wait: bool) -> bytes | Awaitable[bytes]:
        taken = self._take(size)
        if taken:
            return taken
        if not wait:
            raise OSError(errno.EAGAIN, "no response yet")
        return self._read_later(size)

    async def _read_later(self, size: int) -> bytes:
        while not (taken := self._take(size)):
            reader = asyncio.get_running_loop().create_future()
            self._readers.add(reader)
            try:
                await reader
            finally:
                self._readers.discard(reader)
        return taken

    def _take(self, size: int) -> bytes:
        """What there is of the response; the rest stays for the next read."""
        if self._unread:
            taken, self._unread = self._unread[:size], self._unread[size:]
            if not self._unread:
                self._move(Event.READ)
                self._wake()
            return taken
        if self._failure:
            number, self._failure = self._failure, 0
            self._move(Event.READ)
            self._wake()
            raise OSError(number, os.strerror(number))
        if self._state is State.OVER:
            # Also when another card is in: a program must not go on with that one unawares.
            raise OSError(errno.ENXIO, "the card left")
        return b""

    def _wake_readers(self, error: OSError | None = None) -> None:
        for reader in self._readers:
            if reader.done():
                continue
            if error is None:
                reader.set_result(None)
            else:
                reader.set_exception(error)
        self._wake()

    # -- commands ------------------------------------------------------------------------

    def write(self, data: bytes, wait: bool) -> int:
        session = self._session
        if session is None:
            raise OSError(errno.ENXIO, "the card left")
        if self._state is not State.READY:
            raise OSError(errno.EBUSY, "the last response was not read")
        if len(data) > COMMAND_MAX:
            raise OSError(errno.EMSGSIZE, "no command is as long")
        self.commands += 1
        try:
            answer = session.execute(data)
        except Exception as error:  # whatever it is, it is this command's alone
            number = self._failed(session, error)
            raise OSError(number, str(error)) from error
        if isinstance(answer, bytes):
            self._answered(answer, 0)
        else:
            self._move(Event.WRITTEN)
            task = asyncio.get_running_loop().create_task(self._await(session, answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(data)

    async def _await(self, session: Session, answer: Awaitable[bytes]) -> None:
        response, failure = b"", errno.EIO
        try:
            response, failure = await answer, 0
        except Exception as error:
            failure = self._failed(session, error)
        finally:
            if self._session is session:
                self._answered(response, failure)

    def _answered(self, response: bytes, failure: int) -> None:
        self._unread, self._failure = response, failure
        self._move(Event.ANSWERED)
        self._wake_readers()

    def _failed(self, session: Session, error: Exception) -> int:
        """Why a command has no response."""
        if isinstance(error, CardRemoved):
            self._lose(session)
            return errno.ENXIO
        _tell(self._reader, error)
        return errno.EIO

    # -- the session ---------------------------------------------------------------------

    def ioctl(self, request: fuse.Ioctl) -> fuse.IoctlAnswer | Awaitable[fuse.IoctlAnswer]:
        if request.command == RESET:
            return self._reset()
        return super().ioctl(request)

    def poll(self) -> int:
        return _POLL[self._state]

    async def _reset(self) -> fuse.IoctlAnswer:
        self._unread, self._failure = b"", 0
        self._move(Event.READ)
        if self._session is not None:
            self._lose(self._session, OSError(errno.ECANCELED, "the card was reset"))
        session = await _power_on(self._reader)
        if self._session is not None:  # another thread's reset was quicker
            self._lose(self._session, OSError(errno.ECANCELED, "the card was reset"))
        self._session, self._generation = session, self._reader.generation
        self._move(Event.POWERED)
        self._wake()
        return fuse.IoctlResult()

    def _lose(self, session: Session, error: OSError | None = None) -> None:
        """End the session; a response that is there can still be read."""
        if self._session is session:
            self._session = None
            self._move(Event.LOST)
            self._reader.power_off(session)
            self._wake_readers(error)

    def _atr(self) -> bytes:
        if self._session is None:
            raise OSError(errno.ENXIO, "the card left")
        return self._session.atr

    def _move(self, event: Event) -> None:
        self._state = CARD_FILE.after(self._state, event)


async def _power_on(reader: Reader) -> Session:
    """A session, or the error number that says why not."""
    try:
        return await reader.power_on()
    except CardRemoved as error:
        raise OSError(errno.ENOMEDIUM, error.message) from error
    except CardBusy as error:
        raise OSError(errno.EBUSY, error.message) from error
    except Exception as error:
        _tell(reader, error)
        raise OSError(errno.EIO, str(error)) from error


def _tell(reader: Reader, error: Exception) -> None:
    trace = None if isinstance(error, VccidError) else error
    log.warning("the card failed: %s", error, extra={"reader": reader.name}, exc_info=trace)
