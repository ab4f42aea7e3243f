# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file system's operations, as pyfuse3 asks for them.

Whatever goes wrong ends as an errno: pyfuse3 would leave anything else unanswered, and the
program that asked could not even be killed.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import pyfuse3

from vccid.errors import VccidError
from vccid.files.channel import FIRST_STREAM, Channel
from vccid.files.inodes import Inode
from vccid.files.link import DaemonGone, Events
from vccid.files.names import LONGEST_NAME
from vccid.files.tree import PIN_TRIES, File, Link, Stream
from vccid.files.view import View

log = logging.getLogger(__name__)

T = TypeVar("T")
_Listing = tuple[tuple[str, Inode], ...]

#: Streams of events open at once: each has its own connection, of which a user has 64.
MOST_STREAMS: Final = 32

#: Entries in one answer, which so fits the channel; the kernel asks for the rest.
_MOST_ENTRIES: Final = 100
_BLOCK: Final = 4096


def _answered(operation: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """Every end of an operation becomes an answer the kernel knows, and one there is room for."""

    @functools.wraps(operation)
    async def answered(self: Operations, *arguments: Any) -> T:
        try:
            return await operation(self, *arguments)
        except pyfuse3.FUSEError:
            raise
        except BaseException as error:
            raise pyfuse3.FUSEError(_errno(error)) from error
        finally:
            self.channel.pass_on()

    return answered


def _errno(error: BaseException) -> int:
    if isinstance(error, KeyError):
        return errno.ENOENT
    if isinstance(error, TimeoutError):
        return errno.ETIMEDOUT
    if isinstance(error, BlockingIOError):
        return errno.EAGAIN
    if isinstance(error, NotADirectoryError):
        return errno.ENOTDIR
    if isinstance(error, asyncio.CancelledError | DaemonGone):
        return errno.ENOTCONN
    if not isinstance(error, VccidError):
        log.error("an operation failed", exc_info=error)
    return errno.EIO


class Operations(pyfuse3.Operations):  # type: ignore[misc]
    """Answers the kernel."""

    def __init__(self, view: View, channel: Channel) -> None:
        super().__init__()
        self.channel = channel
        self._view = view
        self._inodes = view.inodes
        self._owner = os.geteuid(), os.getegid()
        self._handles = itertools.count(1)
        self._directories: dict[int, tuple[int, _Listing]] = {}
        self._stream_handles = itertools.count(FIRST_STREAM)
        self._streams: dict[int, tuple[Events, bool]] = {}
        channel.ready = self._ready

    def end(self) -> None:
        """Give everyone who reads events the end of them."""
        for events, _ in self._streams.values():
            events.close()

    # -- names -----------------------------------------------------------------------------

    @_answered
    async def lookup(self, parent: int, name: bytes, ctx: Any) -> Any:
        directory = await self._view.directory(parent)
        if name == b".":
            found = directory
        elif name == b"..":
            found = directory.parent or directory
        else:
            found = await self._view.child(directory, os.fsdecode(name))
        self._inodes.looked_up(found)
        return self._attributes(found)

    async def forget(self, forgotten: Sequence[tuple[int, int]]) -> None:
        for number, lookups in forgotten:
            self._inodes.forget(number, lookups)

    @_answered
    async def getattr(self, number: int, ctx: Any) -> Any:
        try:
            await self._view.refresh()
        except DaemonGone:
            # Many a program asks fstat(2) before it reads, and is to read the stream's end.
            if not isinstance(self._inodes[number].node, Stream):
                raise
        return self._attributes(self._inodes[number])

    @_answered
    async def readlink(self, number: int, ctx: Any) -> bytes:
        node = self._inodes[number].node
        assert isinstance(node, Link), "the kernel asks links only"
        return node.target.encode()

    @_answered
    async def opendir(self, number: int, ctx: Any) -> int:
        await self._view.directory(number)
        handle = next(self._handles)
        self._directories[handle] = number, ()
        return handle

    @_answered
    async def readdir(self, handle: int, start: int, token: Any) -> None:
        number, listing = self._directories[handle]
        if start == 0:
            # As a list: what comes and goes meanwhile skips nothing and is told nothing twice.
            listing = await self._listing(number)
            self._directories[handle] = number, listing
        for position, (name, inode) in enumerate(listing[start : start + _MOST_ENTRIES], start):
            attributes = self._attributes(inode)
            if not pyfuse3.readdir_reply(token, os.fsencode(name), attributes, position + 1):
                return
            if name not in (".", ".."):
                self._inodes.looked_up(inode)

    @_answered
    async def releasedir(self, handle: int) -> None:
        self._directories.pop(handle, None)

    # -- contents --------------------------------------------------------------------------

    @_answered
    async def open(self, number: int, flags: int, ctx: Any) -> Any:
        inode = self._inodes[number]
        if isinstance(inode.node, File):
            # Its content never changes, so what the kernel has of it is good.
            return pyfuse3.FileInfo(fh=number, keep_cache=True)
        if not isinstance(inode.node, Stream):
            raise pyfuse3.FUSEError(errno.EISDIR)
        if len(self._streams) >= MOST_STREAMS:
            raise pyfuse3.FUSEError(errno.EMFILE)
        handle = next(self._stream_handles)
        events = await self._view.events(inode.node.reader)
        self._streams[handle] = events, bool(flags & os.O_NONBLOCK)
        return pyfuse3.FileInfo(fh=handle, direct_io=True, keep_cache=False, nonseekable=True)

    @_answered
    async def read(self, handle: int, offset: int, size: int) -> bytes:
        if handle >= FIRST_STREAM:
            return await self._read_events(handle, size)
        node = self._inodes[handle].node
        assert isinstance(node, File), "nothing else is opened"
        return node.content[offset : offset + size]

    @_answered
    async def release(self, handle: int) -> None:
        if stream := self._streams.pop(handle, None):
            stream[0].close()
            self.channel.released(handle)

    @_answered
    async def statfs(self, ctx: Any) -> Any:
        facts = pyfuse3.StatvfsData()
        facts.f_bsize = facts.f_frsize = _BLOCK
        facts.f_blocks = facts.f_bfree = facts.f_bavail = 0
        facts.f_files = len(self._inodes)
        facts.f_ffree = facts.f_favail = 0
        facts.f_namemax = LONGEST_NAME
        return facts

    # -- how it is done --------------------------------------------------------------------

    async def _listing(self, number: int) -> _Listing:
        directory = await self._view.directory(number)
        if PIN_TRIES in directory.children:
            await self._view.count_tries(directory)
        above = directory.parent or directory
        return ((".", directory), ("..", above), *directory.children.items())

    async def _read_events(self, handle: int, size: int) -> bytes:
        unique = self.channel.next_read(handle)
        events, at_once = self._streams[handle]
        reading = asyncio.ensure_future(events.read(size, wait=not at_once))
        self.channel.wait(unique, reading.cancel)
        try:
            return await reading
        except asyncio.CancelledError:
            raise pyfuse3.FUSEError(errno.EINTR) from None
        except VccidError:
            # As a netlink socket has it: events are lost, and the file is to be opened anew.
            raise pyfuse3.FUSEError(errno.ENOBUFS) from None
        finally:
            self.channel.wait_over(unique)

    def _ready(self, handle: int) -> bool:
        stream = self._streams.get(handle)
        return stream is None or stream[0].ready(lambda: self.channel.wake(handle))

    def _attributes(self, inode: Inode) -> Any:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode.number
        # The kernel keeps neither names nor attributes: what comes and goes does so at once.
        entry.entry_timeout = entry.attr_timeout = 0
        entry.st_mode = inode.mode
        entry.st_nlink = inode.links
        entry.st_uid, entry.st_gid = self._owner
        entry.st_size = inode.size
        entry.st_blksize = _BLOCK
        entry.st_blocks = inode.blocks
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = inode.node.time
        return entry
