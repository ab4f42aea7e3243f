# SPDX-License-Identifier: LGPL-2.1-or-later
"""Between the kernel's FUSE device and libfuse, which pyfuse3 wraps: every message goes through.

For what streams of events need and pyfuse3 does not give:
- FUSE_INTERRUPT. Who reads a stream waits in the kernel, and a signal, even SIGKILL, ends that
  only if the request is answered; pyfuse3 tells nobody of the signal.
- FUSE_POLL, which pyfuse3 before 3.5 does not know.
- FOPEN_STREAM, which libfuse does not know.
And the device is read without blocking: the kernel takes back a request whose caller was
killed, and a read that comes too late would hold up everything until the next request.

Source: Linux, fs/fuse/dev.c.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final

from vccid.wire import fuse

#: Room for any request: FUSE_MAX_MAX_PAGES of 4,096 bytes, and a page for the headers.
_MAX_REQUEST: Final = (256 + 1) * 4096

#: Handles of open streams begin here; those of other files are below.
FIRST_STREAM: Final = 1 << 32

_READABLE: Final = select.POLLIN | select.POLLRDNORM


class Channel:
    """One mounted file system's messages.

    Attributes:
        libfuse: the descriptor that libfuse takes for the device; it closes it.
        gone: done when the file system is unmounted.
        ready: whether a stream can be read without waiting; else it has `wake` called later.
    """

    def __init__(self, device: int) -> None:
        """`device` is the open, mounted /dev/fuse; it is closed by `close`."""
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.ready: Callable[[int], bool] = lambda fh: True
        self._device = device
        os.set_blocking(device, False)
        # libfuse's end blocks: it knows no other way.
        self._socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self.libfuse = far.detach()
        self._unsent: deque[bytes] = deque()
        self._opens: set[int] = set()
        self._reads: defaultdict[int, deque[int]] = defaultdict(deque)
        self._waiting: dict[int, Callable[[], object]] = {}
        self._interrupted: set[int] = set()
        self._polled: dict[int, int] = {}
        self._loop.add_reader(self._device, self._request)
        self._loop.add_reader(self._socket, self.pass_on)

    def close(self) -> None:
        """Close the device; the kernel fails what is still asked. May be repeated."""
        if self._device != -1:
            self._end()
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            os.close(self._device)
            self._device = -1

    # -- streams -------------------------------------------------------------------------

    def next_read(self, fh: int) -> int:
        """The request behind the read of a stream that libfuse now brings; it keeps the order."""
        return self._reads[fh].popleft()

    def wait(self, unique: int, interrupt: Callable[[], object]) -> None:
        """A read waits from now on; `interrupt` is called when its caller has a signal."""
        self._waiting[unique] = interrupt
        if unique in self._interrupted:
            interrupt()

    def wait_over(self, unique: int) -> None:
        """It waits no longer."""
        self._waiting.pop(unique, None)
        self._interrupted.discard(unique)

    def wake(self, fh: int) -> None:
        """A stream that was polled can be read now."""
        kh = self._polled.pop(fh, None)
        if kh is not None:
            self._write(fuse.notify_poll(kh))

    def released(self, fh: int) -> None:
        """A stream is closed."""
        self._reads.pop(fh, None)
        self._polled.pop(fh, None)

    # -- from the kernel -----------------------------------------------------------------

    def _request(self) -> None:
        try:
            message = os.read(self._device, _MAX_REQUEST)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR, errno.ENOENT):
                self._end()  # ENODEV: unmounted
            return
        request = fuse.parse(message)
        if isinstance(request, fuse.Interrupt):
            self._interrupt(request.victim)
        elif isinstance(request, fuse.Poll):
            self._poll(request)
        else:
            if isinstance(request, fuse.Open):
                self._opens.add(request.unique)
            elif isinstance(request, fuse.Read) and request.fh >= FIRST_STREAM:
                self._reads[request.fh].append(request.unique)
            self._unsent.append(message)
            self._send()

    def _interrupt(self, victim: int) -> None:
        if victim in self._waiting:
            self._waiting[victim]()
        elif any(victim in reads for reads in self._reads.values()):
            self._interrupted.add(victim)  # libfuse has not brought it yet

    def _poll(self, request: fuse.Poll) -> None:
        """Files that are no streams are ready always."""
        if request.notify and request.fh >= FIRST_STREAM:
            self._polled[request.fh] = request.kh
        ready = request.fh < FIRST_STREAM or self.ready(request.fh)
        self._write(fuse.reply_poll(request.unique, _READABLE if ready else 0))

    def _send(self) -> None:
        try:
            while self._unsent:
                self._socket.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            self._loop.remove_reader(self._device)
            self._loop.add_writer(self._socket, self._send)
            return
        if self._loop.remove_writer(self._socket) and not self.gone.done():
            self._loop.add_reader(self._device, self._request)

    def _end(self) -> None:
        self._loop.remove_reader(self._device)
        if not self.gone.done():
            self.gone.set_result(None)

    # -- from libfuse --------------------------------------------------------------------

    def pass_on(self) -> None:
        """Pass every answer on to the kernel.

        Also to be called before each answer is given: libfuse blocks, and all of us with it,
        where the socket has no room for one more.
        """
        while True:
            try:
                message = self._socket.recv(_MAX_REQUEST)
            except BlockingIOError:
                return
            if not message:  # libfuse has closed its end
                self._loop.remove_reader(self._socket)
                return
            unique = fuse.answered(message)
            if unique in self._opens:
                self._opens.discard(unique)
                message = fuse.as_stream(message)
            self._write(message)

    def _write(self, message: bytes) -> None:
        try:
            os.write(self._device, message)
        except OSError as error:
            # ENOENT: nobody waits for it any more; ENODEV: unmounted.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
