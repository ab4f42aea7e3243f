# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's control socket, for one who stays connected: calls, events, and its end."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vccid.errors import RemoteProtocolError, VccidError
from vccid.wire.varlink import INTERFACE, MAX_MESSAGE_BYTES, Call, Parameters, Reply

#: Seconds the daemon may take for an answer. Who looks at a file waits so long at most.
PATIENCE: Final = 5.0


class DaemonGone(VccidError):
    """The daemon ended, or cannot be reached."""


class Refused(VccidError):
    """The daemon answered with an error; `message` is its own."""


class Link:
    """A connection for calls, answered in order.

    Attributes:
        ended: done when the connection has ended, and the daemon with it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self.ended = asyncio.ensure_future(self._receive())

    @classmethod
    async def connect(cls, path: Path) -> Link:
        """Connect.

        Raises:
            DaemonGone: nobody listens there, or not to us.
        """
        return cls(*await _open(path))

    async def call(self, method: str, parameters: Parameters | None = None) -> Parameters:
        """Call io.vccid.<method>; returns its output.

        Raises:
            Refused: the daemon answered with an error.
            DaemonGone: it is gone.
            TimeoutError: it does not answer.
        """
        if self.ended.done():
            raise DaemonGone("the daemon ended")
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)  # stays in line when nobody waits for it any more
        self._writer.write(Call(f"{INTERFACE}.{method}", parameters or {}).serialize())
        async with asyncio.timeout(PATIENCE):
            reply = await answer
        if reply.error:
            raise Refused(str(reply.parameters.get("message", reply.error)))
        return reply.parameters

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)

    async def _receive(self) -> None:
        try:
            while (message := await _message(self._reader)) is not None:
                reply = Reply.parse(message)
                if not self._waiting:
                    return
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(reply)
        except RemoteProtocolError:
            return  # no daemon of ours, or none any more
        finally:
            self._writer.close()
            for answer in self._waiting:
                if not answer.done():
                    answer.set_exception(DaemonGone("the daemon ended"))


class Events:
    """What happens to one reader, a line each, as `vccidctl monitor --json` prints it.

    The reader's own end is the last line.
    """

    def __init__(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer
        self._ended = False
        self._unread = b""
        self._turn = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, name: str) -> Events:
        """Begin to listen; from here on nothing is missed.

        Args:
            path: the control socket.
            name: the reader's.

        Raises:
            DaemonGone: nobody listens there, or takes no more connections.
            Refused: the daemon does not let us.
            TimeoutError: it does not answer.
        """
        async with asyncio.timeout(PATIENCE):
            events = cls(name, *await _open(path))
            try:
                events._writer.write(Call(f"{INTERFACE}.Monitor", more=True).serialize())
                # The first reply has no event, but the readers as they are.
                if await events._reply() is None:
                    raise DaemonGone("the daemon takes no further connection")
            except BaseException:
                events.close()
                raise
        return events

    async def read(self, size: int, wait: bool = True) -> bytes:
        """Up to `size` bytes of what happened; b"" once reader or daemon has ended.

        Raises:
            Refused: events came faster than they were read.
            BlockingIOError: there is nothing yet, and `wait` is off.
        """
        try:
            async with asyncio.timeout(None if wait else 0), self._turn:
                if not self._unread:
                    self._unread = await self._line()
                data, self._unread = self._unread[:size], self._unread[size:]
                return data
        except TimeoutError:
            raise BlockingIOError from None

    def ready(self, wake: Callable[[], None]) -> bool:
        """Whether `read` would not wait; if it would, `wake` is called once it would not."""
        if self._unread or self._ended:
            return True
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(wake))
        return False

    def close(self) -> None:
        """Listen no longer; who reads gets the end."""
        self._writer.transport.abort()

    async def _look(self, wake: Callable[[], None]) -> None:
        try:
            async with self._turn:
                if not self._unread:
                    self._unread = await self._line()
        except VccidError:
            self._ended = True  # what `read` would have raised; it gets the end
        finally:
            self._looking = None
            wake()

    async def _line(self) -> bytes:
        while not self._ended and (told := await self._reply()) is not None:
            event = told["event"]
            if event["reader"] == self._name:
                self._ended = event["kind"] == "reader-removed"
                return json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n"
        self._ended = True
        return b""

    async def _reply(self) -> Parameters | None:
        message = await _message(self._reader)
        if message is None:
            return None
        reply = Reply.parse(message)
        if reply.error:
            raise Refused(str(reply.parameters.get("message", reply.error)))
        return reply.parameters


async def _open(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(path, limit=MAX_MESSAGE_BYTES)
    except OSError as error:
        raise DaemonGone(f"no daemon listens at {path} ({error.strerror or error})") from error


async def _message(reader: asyncio.StreamReader) -> bytes | None:
    """The next message without its NUL, or None at the end.

    Raises:
        RemoteProtocolError: it is too long.
    """
    try:
        return (await reader.readuntil(b"\0"))[:-1]
    except (asyncio.IncompleteReadError, OSError):
        return None
    except asyncio.LimitOverrunError:
        raise RemoteProtocolError("a message is too long") from None
