# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket: Varlink connections, who may call, and how errors are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from vccid import __version__, wire
from vccid.control.call_parameters import BadParameter, Taker, Unfit
from vccid.control.callers import Access, Peer, peer_of
from vccid.control.methods import Methods
from vccid.errors import (
    NotPermitted,
    RemoteProtocolError,
    VccidError,
    WrongPassword,
    unexpected,
)
from vccid.links import user_names
from vccid.links.paced_accept import PacedAccept
from vccid.process.log_rate_limit import LogRateLimit
from vccid.wire.varlink import (
    INTERFACE,
    MAX_MESSAGE_BYTES,
    SERVICE,
    Call,
    Decoder,
    Parameters,
    Reply,
    service_error,
)

log = logging.getLogger(__name__)

#: Connections at once: of those who may control the daemon, of any one of them but root, and of
#: those who may not, who so cannot keep out the others.
MOST_CONNECTIONS: Final = 256
MOST_OF_A_USER: Final = 64
MOST_OF_STRANGERS: Final = 64

#: Seconds a message may take from its first byte to its last.
PATIENCE: Final = 30.0

#: Calls that a peer withdraws by hanging up: they do nothing until a host asks, and then all of it
#: at once. What others have begun (an insert, an attach) must not end in the middle.
_WITHDRAWN: Final = frozenset((f"{INTERFACE}.AskedPin", f"{INTERFACE}.EnterPin"))

_READ_BYTES: Final = 65536


class ControlServer:
    """Listens, and serves each connection on its own.

    Attributes:
        access: who may call; replaced when the settings are read again.
    """

    def __init__(self, methods: Methods, access: Access) -> None:
        self.access = access
        self._methods = methods
        self._doormen: list[PacedAccept] = []
        self._connections: dict[asyncio.Task[None], Peer] = {}
        self._strangers = LogRateLimit(log)

    async def start(self, *listening: socket.socket) -> None:
        """Serve listening unix sockets."""
        self._doormen += [PacedAccept(each, self._admit) for each in listening]

    async def stop(self) -> None:
        """End every connection; calls under way are not answered any more."""
        for accept in self._doormen:
            accept.close()
        tasks = tuple(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _admit(self, connection: socket.socket) -> Callable[[], asyncio.BaseProtocol] | None:
        peer = peer_of(connection)
        if self._crowded(peer):
            return None

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(reader, writer, peer)

        return lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), serve)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this as a task"
        if self._crowded(peer):  # by those who were let in at the same time
            writer.transport.abort()
            return
        self._connections[task] = peer
        tell = partial(self._tell, peer)
        try:
            await _Connection(reader, writer, peer, self._methods, self.access, tell).serve()
        except RemoteProtocolError as error:
            self._tell(peer, logging.WARNING, "dropped a connection: %s", error.message)
            writer.transport.abort()
        except OSError as error:
            log.debug("lost a connection: %s", error, extra={"peer": peer})
        except Exception:
            log.exception("dropped a connection", extra={"peer": peer})
            writer.transport.abort()
        finally:
            del self._connections[task]
            writer.close()

    def _tell(self, peer: Peer, level: int, text: str, *arguments: object) -> None:
        """Log a line on a peer; a stranger gets no more than its share of the log."""
        if self.access.admits(peer):
            log.log(level, text, *arguments, extra={"peer": peer})
        else:
            self._strangers.tell(peer.uid, level, text, *arguments, peer=peer)

    def _crowded(self, peer: Peer) -> bool:
        """Whether there is no room for one more, which the log tells then."""
        crowded = self._has_no_room(peer)
        if crowded:
            self._tell(peer, logging.WARNING, "refused a connection: too many are open")
        return crowded

    def _has_no_room(self, peer: Peer) -> bool:
        admitted = self.access.admits(peer)
        alike = [p for p in self._connections.values() if self.access.admits(p) == admitted]
        if not admitted:
            return len(alike) >= MOST_OF_STRANGERS
        many = peer.uid != 0 and sum(p.uid == peer.uid for p in alike) >= MOST_OF_A_USER
        return many or len(alike) >= MOST_CONNECTIONS


class _Connection:
    """One peer's calls, answered in order."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer,
        methods: Methods,
        access: Access,
        tell: Callable[..., None],
    ) -> None:
        """`tell` logs a line: its level, text and arguments."""
        self._reader = reader
        self._writer = writer
        self._peer = peer
        self._methods = methods
        self._access = access
        self._tell = tell
        self._decoder = Decoder()
        self._messages: deque[bytes] = deque()

    async def serve(self) -> None:
        """Answer until the peer has no more calls.

        Raises:
            RemoteProtocolError: it broke the protocol.
            OSError: it is gone.
        """
        while (message := await self._next_message()) is not None:
            call = Call.parse(message)
            if call.interface == INTERFACE and call.member == "Monitor" and call.more:
                await self._stream(call)
                return
            if call.oneway:
                # Its peer waits for nothing, and may well have left.
                await self._answer(call)
            elif call.method in _WITHDRAWN:
                reply = await self._unless_hung_up(self._answer(call))
                if reply is None:
                    log.info(
                        "%s: withdrawn: the peer hung up", call.method, extra={"peer": self._peer}
                    )
                    return
                await self._send(reply)
            else:
                await self._send(await self._answer(call))

    async def _next_message(self) -> bytes | None:
        while not self._messages:
            # A peer may be silent between two calls for as long as it likes, not within one.
            limit = PATIENCE if self._decoder.partial else None
            try:
                async with asyncio.timeout(limit):
                    data = await self._reader.read(_READ_BYTES)
            except TimeoutError:
                raise RemoteProtocolError(f"half a call for {PATIENCE:g} seconds") from None
            if not data:
                if self._decoder.partial:
                    raise RemoteProtocolError("the connection ended within a call")
                return None
            self._messages.extend(self._decoder.feed(data))
        return self._messages.popleft()

    async def _send(self, reply: Reply) -> None:
        self._writer.write(reply.serialize())
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes with the result.
            async with asyncio.timeout(PATIENCE):
                await self._writer.drain()
        except TimeoutError:
            raise RemoteProtocolError(f"no reply was read for {PATIENCE:g} seconds") from None

    async def _answer(self, call: Call) -> Reply:
        if call.interface == SERVICE:
            return _about_the_service(call)
        if call.interface != INTERFACE:
            return service_error("InterfaceNotFound", interface=call.interface)
        if (refusal := await self._refusal(call)) is not None:
            return refusal
        try:
            if call.member == "Monitor":
                return service_error("ExpectedMore")
            method = self._methods.table.get(call.member)
            if method is None:
                return service_error("MethodNotFound", method=call.method)
            return Reply(await method(Taker(call.parameters)))
        except Exception as error:  # whatever it is, the caller waits for an answer
            return self._failed(call, error)

    async def _unless_hung_up(self, answer: Coroutine[Any, Any, Reply]) -> Reply | None:
        """The answer, or None: the peer ended its side of the connection before there was one.

        Raises:
            RemoteProtocolError, OSError: as `serve`.
        """
        answering = asyncio.ensure_future(answer)
        hanging_up = asyncio.ensure_future(self._until_hung_up())
        try:
            await asyncio.wait({answering, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            if hanging_up.done():
                hanging_up.result()
            return answering.result() if answering.done() else None
        finally:
            await _cancel(answering, hanging_up)

    async def _until_hung_up(self) -> None:
        """Keep the calls that come meanwhile."""
        while data := await self._reader.read(_READ_BYTES):
            self._messages.extend(self._decoder.feed(data))
            if sum(len(message) + 1 for message in self._messages) > MAX_MESSAGE_BYTES:
                raise RemoteProtocolError("too many calls behind one that waits")

    async def _stream(self, call: Call) -> None:
        """Answer Monitor until the peer hangs up."""
        if (refusal := await self._refusal(call)) is not None:
            await self._send(refusal)
            return
        try:
            async with aclosing(self._methods.monitor(Taker(call.parameters))) as replies:
                await self._forward(replies)
        except (RemoteProtocolError, OSError):
            raise
        except Exception as error:
            await self._send(self._failed(call, error))

    async def _forward(self, replies: AsyncIterator[Parameters]) -> None:
        """Send each reply as it comes; the peer's end of the connection ends it."""

        async def send_all() -> None:
            async for parameters in replies:
                await self._send(Reply(parameters, continues=True))

        if self._messages or self._decoder.partial:
            raise RemoteProtocolError("another call while events are sent")
        sending = asyncio.ensure_future(send_all())
        hanging_up = asyncio.ensure_future(self._reader.read(1))
        try:
            await asyncio.wait({sending, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            elif hanging_up.result():
                raise RemoteProtocolError("another call while events are sent")
        finally:
            await _cancel(sending, hanging_up)

    async def _refusal(self, call: Call) -> Reply | None:
        """What a peer hears that may not drive the daemon: the only one to be NotPermitted."""
        if self._access.admits(self._peer):
            return None
        await user_names.names.wait(self._peer.uid)
        try:
            self._access.check(self._peer)
        except NotPermitted as error:
            return replace(self._failed(call, error), error=f"{INTERFACE}.NotPermitted")
        return None

    def _failed(self, call: Call, error: Exception) -> Reply:
        if isinstance(error, BadParameter) and not isinstance(error, Unfit):
            return service_error("InvalidParameter", parameter=error.name)
        if isinstance(error, VccidError):
            self._tell(logging.INFO, "%s: %s", call.method, error.message)
            return error_reply(error)
        # The host is short of something, or we erred; the caller is told what, and the log where.
        log.error("%s: %s", call.method, error, exc_info=error, extra={"peer": self._peer})
        if isinstance(error, OSError):
            return error_reply(VccidError(error.strerror or str(error), "see: journalctl -u vccid"))
        return error_reply(unexpected(error))


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    """End them, whatever they come to."""
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def error_reply(error: VccidError) -> Reply:
    """An error as io.vccid tells it: by the nearest name the interface declares."""
    parameters: Parameters = {"message": error.message, "hint": error.hint}
    if isinstance(error, WrongPassword):
        parameters["tries"] = error.tries_left
    kind = next((k.__name__ for k in type(error).__mro__ if k.__name__ in _DECLARED), "Failed")
    return Reply(parameters, error=f"{INTERFACE}.{kind}")


def interface_text(interface: str) -> str | None:
    """An interface's definition, or None for one that is not ours."""
    if interface not in (SERVICE, INTERFACE):
        return None
    return Path(wire.__path__[0], f"{interface}.varlink").read_text("utf-8")


_DECLARED: Final = frozenset(
    (
        *("ConfigError", "KeySourceError", "SourceUnusable", "CertificateNotFound"),
        *("PrivateKeyMissing", "KeyUnsuitable", "PasswordNeeded", "WrongPassword"),
        *("TokenLocked", "TokenGone"),
        *("KeyOperationError", "StateError", "ReaderError", "CardRemoved", "CardBusy"),
    )
)


def _about_the_service(call: Call) -> Reply:
    """org.varlink.service, open to everyone who can connect."""
    given = Taker(call.parameters)
    try:
        if call.member == "GetInfo":
            given.done()
            return Reply(
                {
                    "vendor": "vccid",
                    "product": "vccid",
                    "version": __version__,
                    "url": "",
                    "interfaces": [SERVICE, INTERFACE],
                }
            )
        if call.member == "GetInterfaceDescription":
            interface = given.text("interface")
            given.done()
            if interface is None:
                raise BadParameter("interface")
            text = interface_text(interface)
            if text is None:
                return service_error("InterfaceNotFound", interface=interface)
            return Reply({"description": text})
    except BadParameter as error:
        return service_error("InvalidParameter", parameter=error.name)
    return service_error("MethodNotFound", method=call.method)
