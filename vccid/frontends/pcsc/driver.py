# SPDX-License-Identifier: LGPL-2.1-or-later
"""The reader as pcscd on this host sees it, through the driver libifdvccid.so.

docs/ifd-protocol.md says what goes over the socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from vccid.card.card import Session
from vccid.errors import (
    CardBusy,
    CardRemoved,
    RemoteProtocolError,
    VccidError,
    unexpected,
)
from vccid.frontends.pcsc.commands_states import COMMANDS_CONNECTION, Event, State
from vccid.frontends.pcsc.listening import listen_at
from vccid.links import user_names
from vccid.links.own_file import OwnFile
from vccid.links.paced_accept import PacedAccept
from vccid.reader import Host, Reader
from vccid.wire import ifd

if TYPE_CHECKING:
    from vccid.frontends.pcsc.pin_pad_controls import PinPadControls
    from vccid.frontends.pin_pad import PinPad

log = logging.getLogger(__name__)

#: Linux's struct ucred: pid, uid, gid of whoever connected.
UCRED = struct.Struct("=iII")

#: Seconds between two BUSY while an answer is awaited; the driver's patience is five.
KEEPALIVE = 1.0

#: Bytes a peer may leave unread before it is let go: one command's answer and some events.
WRITE_LIMIT = 2 * ifd.PAYLOAD_MAX

#: Warnings about peers a frontend writes at most in its life.
COMPLAINTS_MAX = 1000

#: The user pcscd may run as where it is not root.
PCSCD = "pcscd"

_WAITING = State.WAITING  # looked up once, not for every APDU


class IfdFrontend:
    """Listens at one path for pcscd's driver, and serves one reader to it.

    Attributes:
        reader: the slot that is shown.
        path: of the socket; anybody may connect, only root, our own user and pcscd are served.
        serial: the reader's serial number, for programs that ask.
        hosts: by peer, those whose driver's EVENTS connection there is.
        pin_pad: the reader's, or None where it has none; programs are told of it accordingly.
    """

    def __init__(
        self,
        reader: Reader,
        path: Path,
        serial: str = "",
        *,
        pin_pad: PinPad | None = None,
        keepalive: float = KEEPALIVE,
    ) -> None:
        self.reader = reader
        self.path = path
        self.serial = serial
        self.pin_pad = pin_pad
        self.keepalive = keepalive
        self._accept: PacedAccept | None = None
        self._file: OwnFile | None = None
        self._connections: set[_Connection] = set()
        self._log_limit: set[tuple[str, str]] = set()
        self.hosts: dict[str, Host] = {}

    @property
    def status(self) -> str:
        """For `vccidctl status`."""
        return str(self.path)

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: another daemon listens there, or the path cannot be used.
        """
        listener = listen_at(self.path)
        self._file = OwnFile(self.path)
        self._accept = PacedAccept(listener, self._admit)
        user_names.numbers.get(PCSCD)  # so that it is known when that user comes

    async def stop(self) -> None:
        """Let every driver go, which sees an empty reader then, and remove the socket."""
        if self._accept is None:
            return
        self._accept.close()
        self._accept = None
        for connection in tuple(self._connections):
            connection.abort()
        if self._file is not None:
            self._file.remove()

    def _admit(self, connection: socket.socket) -> Callable[[], _Connection] | None:
        """Let in who may connect, before anything is made for the connection."""
        pid, uid = _peer_of(connection)
        if _may_connect(uid):
            return lambda: _Connection(self, pid)
        if user_names.numbers.get(PCSCD) == user_names.UNKNOWN:
            return None  # it may be that user; a driver comes again in a moment
        # Anybody can connect, from a new process each time: one line for each user.
        self.complain(
            f"user id {uid}",
            "(pid %d) was refused on %s: only root, the daemon's own user and user pcscd "
            "may connect; run pcscd as one of these",
            pid,
            self.path,
        )
        return None

    def complain(self, peer: str, what: str, *arguments: object) -> None:
        """Log a warning, once for each peer: a driver connects anew five times a second."""
        if (peer, what) not in self._log_limit and len(self._log_limit) < COMPLAINTS_MAX:
            self._log_limit.add((peer, what))
            log.warning(f"%s {what}", peer, *arguments, extra={"reader": self.reader.name})


class _Role(Protocol):
    """What a connection is for."""

    def received(self, message: ifd.Message) -> None: ...

    def closed(self) -> None: ...


class _Connection(asyncio.BufferedProtocol):
    """One connection of a driver; what it is for comes with its HELLO."""

    _transport: asyncio.Transport

    def __init__(self, frontend: IfdFrontend, pid: int) -> None:
        self._frontend = frontend
        self._receiver = ifd.Receiver()
        self._role: _Role | None = None
        self._received: Callable[[ifd.Message], None] = self._hello
        self._peer = f"pid {pid}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._frontend._connections.add(self)
        self._transport.set_write_buffer_limits(high=WRITE_LIMIT)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._receiver.room()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            message = self._receiver.next_message(nbytes)
            while message is not None:
                self._received(message)
                message = self._receiver.next_message()
        except RemoteProtocolError as error:
            self._frontend.complain(
                self._peer,
                "broke the driver's protocol and was let go: %s; "
                "libifdvccid.so and vccid must be of one release",
                error,
            )
            self.abort()

    def pause_writing(self) -> None:
        self._frontend.complain(self._peer, "does not read its driver's socket and was let go")
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._frontend._connections.discard(self)
        if self._role is not None:
            self._role.closed()

    def abort(self) -> None:
        self._transport.abort()

    def _hello(self, message: ifd.Message) -> None:
        if not isinstance(message, ifd.Hello):
            raise RemoteProtocolError("its first frame is no HELLO")
        send = self._transport.write
        send(ifd.serialize_hello(message.role))
        if message.version != ifd.VERSION:
            self._frontend.complain(
                self._peer,
                "has a driver of protocol version %d, this daemon speaks %d: "
                "install libifdvccid.so and vccid of one release, and restart pcscd",
                message.version,
                ifd.VERSION,
            )
            self._transport.close()
            return
        role: _Role
        peer = f"pcscd ({self._peer})"
        if message.role == ifd.Role.EVENTS:
            role = _Events(self._frontend, send, peer)
        else:
            role = _Commands(self._frontend, send, peer)
        self._role = role
        self._received = role.received


class _Events(Host):
    """Tells the driver of the card, and the reader of what pcscd has seen."""

    def __init__(self, frontend: IfdFrontend, send: Callable[[bytes], None], peer: str) -> None:
        self.kind = "ifd"
        self.peer = peer
        self.seen = -1
        self._hosts = frontend.hosts
        self._hosts[peer] = self
        self._reader = reader = frontend.reader
        self._send = send
        reader.attach(self)
        self.card_changed()

    def card_changed(self) -> None:
        card = self._reader.card
        self._send(ifd.serialize_card(self._reader.generation, card.atr if card else None))

    def received(self, message: ifd.Message) -> None:
        if not isinstance(message, ifd.Seen) or message.generation > self._reader.generation:
            raise RemoteProtocolError(f"{message} on its EVENTS connection")
        self._reader.acknowledge(self, message.generation)

    def closed(self) -> None:
        if self._hosts.get(self.peer) is self:
            del self._hosts[self.peer]
        self._reader.detach(self)


class _Commands:
    """Answers the driver's commands with a session of its own."""

    def __init__(self, frontend: IfdFrontend, send: Callable[[bytes], None], peer: str) -> None:
        self._host = frontend.hosts.get(peer)
        self._reader = reader = frontend.reader
        self._send = send
        self._keepalive = frontend.keepalive
        self._serial = frontend.serial.encode("ascii")
        self._pin_pad: PinPadControls | None = None
        if frontend.pin_pad is not None:
            from vccid.frontends.pcsc.pin_pad_controls import PinPadControls

            self._pin_pad = PinPadControls(reader, frontend.pin_pad, f"ifd {peer}")
        self._session: Session | None = None
        self._session_generation = 0
        self._waiting: asyncio.Future[bytes] | None = None
        self._busy: asyncio.TimerHandle | None = None
        self._state = COMMANDS_CONNECTION.initial

    def received(self, message: ifd.Message) -> None:
        if self._state is _WAITING:
            raise RemoteProtocolError("a command before the answer to the last one")
        if self._session is not None and self._session_generation != self._reader.generation:
            self._power_off()  # it was the card's before, and this one is not powered yet
        if isinstance(message, ifd.Transmit):
            if self._host is not None:
                self._host.commands += 1
            if self._session is None:
                # A card that is in stays so: only this command fails, as with any reader.
                empty = self._reader.card is None
                status = ifd.Status.CARD_REMOVED if empty else ifd.Status.FAILED
                self._send(ifd.serialize_refusal(ifd.TRANSMIT, status))
                return
            try:
                answer = self._session.execute(message.command)
            except Exception as error:  # whatever it is, pcscd waits for an answer
                self._failed(ifd.TRANSMIT, error)
                return
            if isinstance(answer, bytes):
                self._send(ifd.serialize_answer(ifd.TRANSMIT, answer))
            else:
                self._await(ifd.TRANSMIT, answer)
        else:
            self._received_other(message)

    def _received_other(self, message: ifd.Message) -> None:
        if isinstance(message, ifd.PowerOn):
            self._await(ifd.Kind.POWER_ON, self._power_on())
        elif isinstance(message, ifd.Reset):
            self._await(ifd.Kind.RESET, self._power_on())
        elif isinstance(message, ifd.PowerOff):
            self._power_off()
            self._send(ifd.serialize_answer(ifd.Kind.POWER_OFF))
        elif isinstance(message, ifd.Control):
            self._control(message)
        else:
            raise RemoteProtocolError(f"{message} on its COMMANDS connection")

    def _control(self, message: ifd.Control) -> None:
        answer: bytes | Awaitable[bytes] | None = None
        if message.code == ifd.GET_SERIAL:
            answer = self._serial
        elif self._pin_pad is not None:
            try:
                answer = self._pin_pad.answer(message.code, message.data, self._session)
            except Exception as error:  # as above
                self._failed(ifd.Kind.CONTROL, error)
                return
        if answer is None:
            self._send(ifd.serialize_refusal(ifd.Kind.CONTROL, ifd.Status.NOT_SUPPORTED))
        elif isinstance(answer, bytes):
            self._send(ifd.serialize_answer(ifd.Kind.CONTROL, answer))
        else:
            self._await(ifd.Kind.CONTROL, answer)

    def closed(self) -> None:
        self._move(Event.LOST)
        if self._waiting is not None:
            self._waiting.cancel()
            self._stop_waiting()
        self._power_off()

    async def _power_on(self) -> bytes:
        self._power_off()
        session = await self._reader.power_on()
        if self._state is State.CLOSED:
            self._reader.power_off(session)
            raise CardRemoved("pcscd left while the card was powered on")
        self._session, self._session_generation = session, self._reader.generation
        return session.atr

    def _power_off(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._reader.power_off(session)

    def _await(self, kind: int, answer: Awaitable[bytes]) -> None:
        """Answer when the card does, and say BUSY meanwhile."""
        self._move(Event.COMMAND)
        self._waiting = work = asyncio.ensure_future(answer)
        self._busy = work.get_loop().call_later(self._keepalive, self._say_busy)
        work.add_done_callback(partial(self._answer_later, kind))

    def _say_busy(self) -> None:
        self._send(ifd.BUSY)
        self._busy = asyncio.get_running_loop().call_later(self._keepalive, self._say_busy)

    def _answer_later(self, kind: int, work: asyncio.Future[bytes]) -> None:
        self._move(Event.ANSWERED)
        self._stop_waiting()
        if work.cancelled():
            return
        try:
            self._send(ifd.serialize_answer(kind, work.result()))
        except Exception as error:  # whatever it is, pcscd waits for an answer
            self._failed(kind, error)

    def _stop_waiting(self) -> None:
        self._waiting = None
        if self._busy is not None:
            self._busy.cancel()

    def _failed(self, kind: int, error: Exception) -> None:
        if isinstance(error, CardRemoved):
            self._power_off()
            status = ifd.Status.CARD_REMOVED
        else:
            told = error if isinstance(error, VccidError) else unexpected(error)
            trace = None if told is error else error
            log.warning("%s", told.message, exc_info=trace, extra={"reader": self._reader.name})
            busy = isinstance(error, CardBusy)
            status = ifd.Status.CARD_BUSY if busy else ifd.Status.FAILED
        self._send(ifd.serialize_refusal(kind, status))

    def _move(self, event: Event) -> None:
        self._state = COMMANDS_CONNECTION.after(self._state, event)


def _peer_of(connection: socket.socket) -> tuple[int, int]:
    """The process id and user id of whoever connected."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    pid, uid, _ = UCRED.unpack(credentials)
    return pid, uid


def _may_connect(uid: int) -> bool:
    return uid in (0, os.geteuid()) or user_names.numbers.get(PCSCD) == uid
