# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs linked to libpcsclite, served with no pcscd between: sockets, and who may come.

Its own sockets and no transports of asyncio: an APDU comes in three writes, and its answer is
awaited at once, so each turn of the loop that is saved is seen.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vccid.errors import RemoteProtocolError
from vccid.frontends.pcsc.program import Program
from vccid.frontends.pcsc.registry import Registry
from vccid.frontends.pcsc.shown_reader import ShownReader
from vccid.links.paced_accept import PacedAccept
from vccid.process.log_rate_limit import LogRateLimit
from vccid.reader import Reader
from vccid.wire.pcsclite import DATA_MAX, Parser, Rv, more_of_transmit, parse_transmit

if TYPE_CHECKING:
    from vccid.frontends.pin_pad import PinPad

log = logging.getLogger(__name__)

#: Where received bytes go first; one for all, as each is taken out within its callback.
_ROOM: Final = bytearray(2 * DATA_MAX)
_VIEW: Final = memoryview(_ROOM)
#: Bytes a program may send while it is awaiting an answer, and leave unread of ours.
HELD_MAX: Final = 4 * DATA_MAX

#: Looks for the rest of an APDU whose header is here, before the loop is asked for it: the
#: library sends header, struct and data each by itself, microseconds apart.
LOOKS: Final = 30

#: Connections of those who may not use the readers, and seconds each has to read that.
STRANGERS_MAX: Final = 16
STRANGER_PATIENCE: Final = 5.0
#: Connections beyond the limit that are told so.
TOLD_MAX: Final = 32
#: Programs that may dial at once: libpcsclite takes a full backlog for a missing service.
BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Known:
    """A reader of the daemon, shown or to be shown.

    Attributes:
        serial: its serial number.
    """

    reader: Reader
    serial: str
    pin_pad: PinPad | None


class PcscServer:
    """Serves programs at one listening socket; shows no reader before the first one comes.

    Attributes:
        registry: what programs see.
        may_use: whether whoever connected may use the readers.
        most: programs at once.
        dropped: says in the log whom it let go, and why.
    """

    def __init__(
        self, registry: Registry, may_use: Callable[[socket.socket], bool], most: int
    ) -> None:
        self.registry = registry
        self.may_use = may_use
        self.most = most
        self._known: dict[Reader, Known] = {}
        self._shown: dict[Reader, ShownReader] = {}
        self._awake = False
        self._connections: set[_Connection] = set()
        #: connections, by why they are refused
        self._open: Counter[Rv | None] = Counter()
        self._accept: PacedAccept | None = None
        self.dropped = LogRateLimit(log)

    @property
    def programs(self) -> int:
        """Contexts that are open."""
        return len(self.registry.contexts)

    def start(self, listener: socket.socket) -> None:
        """Serve a listening unix socket."""
        self._accept = PacedAccept(listener, self._admit, BACKLOG)

    def stop(self) -> None:
        """Let every program go: to them, the service has stopped."""
        accept, self._accept = self._accept, None
        if accept is None:
            return
        accept.close()
        for connection in tuple(self._connections):
            connection.close()
        self.registry.close()

    def add(self, reader: Reader, serial: str, pin_pad: PinPad | None) -> None:
        """Show a reader; one that has changed comes anew."""
        known = Known(reader, serial, pin_pad)
        if self._known.get(reader) == known:
            return
        self.remove(reader)
        self._known[reader] = known
        if self._awake:
            self._shown[reader] = self.registry.add(reader, serial, pin_pad)

    def remove(self, reader: Reader) -> None:
        """Show it no longer. May be repeated."""
        self._known.pop(reader, None)
        shown = self._shown.pop(reader, None)
        if shown is not None:
            self.registry.remove(shown)

    def _admit(self, connected: socket.socket) -> None:
        """Take one who connected, or have it turned away."""
        refusal, most = None, self.most
        if not self.may_use(connected):
            refusal, most = Rv.W_SECURITY_VIOLATION, STRANGERS_MAX
        elif self._open[None] >= self.most:
            refusal, most = Rv.E_NO_MEMORY, TOLD_MAX
        if self._open[refusal] >= most:
            return
        if refusal is not Rv.W_SECURITY_VIOLATION:
            self._wake()
        self._open[refusal] += 1
        own = socket.socket(fileno=connected.detach())
        self._connections.add(_Connection(self, own, refusal))

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            for known in self._known.values():
                self._shown[known.reader] = self.registry.add(
                    known.reader, known.serial, known.pin_pad
                )

    def forget(self, connection: _Connection) -> None:
        """It is closed."""
        self._connections.discard(connection)
        self._open[connection.refusal] -= 1


class _Connection:
    """One program's socket."""

    def __init__(self, server: PcscServer, connected: socket.socket, refusal: Rv | None) -> None:
        connected.setblocking(False)
        self.refusal = refusal
        self._server = server
        self._socket = connected
        self._parser = Parser()
        self._unsent = bytearray()
        self._open = True
        self._program = Program(server.registry, self._send, refusal, self._serve)
        loop = asyncio.get_running_loop()
        loop.add_reader(connected.fileno(), self._readable)
        if refusal is not None:
            loop.call_later(STRANGER_PATIENCE, self.close)

    def close(self) -> None:
        """End it; what its program had open is let go of. May be repeated."""
        if not self._open:
            return
        self._open = False
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        if self._unsent:
            loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._server.forget(self)
        self._program.closed()

    def _let_go(self, why: str) -> None:
        self._server.dropped.tell("", logging.INFO, "a program of PC/SC was let go: %s", why)
        self.close()

    def _readable(self) -> None:
        try:
            size = self._socket.recv_into(_ROOM)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            size = 0
        if not size:
            self.close()
            return
        data = bytes(_VIEW[:size])
        parser, program = self._parser, self._program
        try:
            if not parser.held and not program.busy and not self._unsent:
                request = parse_transmit(data)
                if request is None and more_of_transmit(data):
                    data = self._rest_of(data)
                    request = parse_transmit(data)
                if request is not None:
                    program.transmit(request)
                    return
            parser.feed(data)
            self._serve()
        except RemoteProtocolError as error:
            self._let_go(error.message)
        except Exception:  # a fault of ours takes this program along, and no other
            log.exception("a program of PC/SC could not be served")
            self.close()

    def _rest_of(self, data: bytes) -> bytes:
        """Look a few times more for what has not come yet, where it is due any moment."""
        receive, looks = self._socket.recv_into, LOOKS
        while looks and (missing := more_of_transmit(data)):
            looks -= 1
            try:
                size = receive(_ROOM, missing)
            except (BlockingIOError, InterruptedError):
                os.sched_yield()  # the program may share our processor, and we came before it
                continue
            except OSError:
                break
            if not size:
                break  # the loop will find the same
            data += _VIEW[:size]
        return data

    def _serve(self) -> None:
        """Serve what has come, one request at a time."""
        program, parser = self._program, self._parser
        try:
            while self._open and not program.busy and not self._unsent:
                message = parser.next_message()
                if message is None:
                    return
                program.received(message)
            if parser.held > HELD_MAX:
                raise RemoteProtocolError("more requests before the answer to the last one")
        except RemoteProtocolError as error:
            self._let_go(error.message)
        except Exception:  # a fault of ours takes this program along, and no other
            log.exception("a program of PC/SC could not be served")
            self.close()

    def _send(self, data: bytes) -> None:
        if not self._open:
            return
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > HELD_MAX:
                self._let_go("it does not read")
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            if error.errno != errno.EPIPE:
                log.debug("lost a program of PC/SC: %s", error)
            return  # the loop will find its end
        if sent < len(data):
            self._unsent += data[sent:]
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        if not self._unsent:
            asyncio.get_running_loop().remove_writer(self._socket.fileno())
            self._serve()
