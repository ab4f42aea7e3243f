# SPDX-License-Identifier: LGPL-2.1-or-later
"""The USB/IP server: other hosts list this host's readers and attach them.

USB/IP itself knows neither authentication nor encryption: the server listens on loopback, or
to those it is told to trust, best behind TLS with client certificates.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from vccid.errors import ConfigError, RemoteProtocolError
from vccid.frontends.usb.urb_connection import UrbLink
from vccid.frontends.usb.usb_host import UsbReader
from vccid.links.transport import keep_alive
from vccid.process.cleanup import take_all, take_all_async
from vccid.process.log_rate_limit import LogRateLimit
from vccid.usb.descriptors import CLASS
from vccid.wire import usbip

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Seconds a peer has for its first request, for a TLS handshake, and to end a message it began.
REQUEST_TIMEOUT: Final = 10.0
#: Unsent bytes above which nothing more is read from a peer: three of the longest answers.
_WRITE_LIMIT: Final = 3 * 65_600
#: Connections the kernel keeps waiting, and seconds until the next is tried after a failure.
_BACKLOG: Final = 100
_BREATH: Final = 1.0
#: <linux/in.h>; Python 3.11 does not name it.
_IP_FREEBIND: Final = 15
#: Seconds of silence, seconds between probes, and probes, until a vanished importer is let go:
#: longer than a network's usual hitch, since who is let go loses its reader.
_KEEPALIVE: Final = (60, 10, 3)


@dataclass(frozen=True, slots=True)
class UsbIpSettings:
    """Where the server listens, and to whom.

    Attributes:
        address: loopback, or else `allow` must name who may connect.
        port: 0 takes a free one.
        max_connections: at once, listings included.
        tls: where given, peers speak TLS; make it ask for client certificates.
    """

    #: who can connect can take the reader, and who can listen on the way reads PINs
    address: str = "127.0.0.1"
    port: int = usbip.PORT
    allow: tuple[Network, ...] = ()
    max_connections: int = 32
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if not ipaddress.ip_address(self.address).is_loopback and not self.allow:
            raise ConfigError(
                f"USB/IP on {self.address} would serve anybody: it has no authentication",
                "name the networks that may connect (allow), and better use TLS too",
            )

    def allows(self, peer: str) -> bool:
        """Whether this address may connect."""
        address = ipaddress.ip_address(peer.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return not self.allow or any(address in network for network in self.allow)


def _listen_early(place: tuple[str, int], family: int) -> socket.socket:
    """At an address that may come: ip(7), IP_FREEBIND, which holds for IPv6 too."""
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class UsbIpServer:
    """Serves the readers that are exported at the moment.

    Attributes:
        address: (host, port) it listens at, once started.
        is_early: no interface had that address then; once one has it, peers come in.
        settings: as they hold for peers that come from now on, but for address and port.
    """

    def __init__(
        self, readers: Callable[[], Mapping[str, UsbReader]], settings: UsbIpSettings
    ) -> None:
        """`readers` are those exported, by bus id."""
        self.address = (settings.address, settings.port)
        self.settings = settings
        self._readers = readers
        self.is_early = False
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[_Connection] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._log_limit = LogRateLimit(log)

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: the address cannot be had.
        """
        try:
            listener = self._listener()
        except OSError as error:
            raise ConfigError(
                f"cannot listen for USB/IP on {self.settings.address} port "
                f"{self.settings.port}: {error.strerror or error}",
                "is another USB/IP server (usbipd) there? set another port or address",
            ) from error
        listener.setblocking(False)
        self.address = listener.getsockname()[:2]
        self._accepting = asyncio.create_task(self._accept(listener), name="USB/IP")

    async def stop(self) -> None:
        """Let every importer go and listen no more."""
        if self._accepting is None:
            return
        ending = [self._accepting, *self._joining]
        self._accepting = None
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._release(self._connections)

    async def drop(self, name: str) -> None:
        """The reader is no longer exported: take it from its importer."""
        await self._release(c for c in self._connections if c.owns(name))

    @staticmethod
    async def _release(connections: Iterable[_Connection]) -> None:
        leaving = tuple(connections)
        try:
            await asyncio.gather(*(take_all_async(connection.leave) for connection in leaving))
        finally:
            take_all(*(connection.close for connection in leaving))

    def records(self) -> tuple[usbip.DeviceRecord, ...]:
        """What a peer may import now; what is imported already is not listed."""
        return tuple(
            self.record(busid, reader)
            for busid, reader in self._readers().items()
            if not self.is_owned(reader.name)
        )

    @staticmethod
    def record(busid: str, reader: UsbReader) -> usbip.DeviceRecord:
        """A reader as the protocol describes it."""
        bus, _, number = busid.partition("-")
        identity = reader.identity
        return usbip.DeviceRecord(
            path=f"/vccid/{reader.name}",
            busid=busid,
            busnum=int(bus),
            devnum=int(number),
            speed=reader.speed,
            vendor_id=identity.vendor_id,
            product_id=identity.product_id,
            release=identity.release,
            interfaces=(CLASS,),
        )

    def find(self, busid: str) -> UsbReader | None:
        """The exported reader with this bus id."""
        return self._readers().get(busid)

    def is_owned(self, name: str) -> bool:
        """Whether somebody has imported it."""
        return any(connection.owns(name) for connection in self._connections)

    def forget(self, connection: _Connection) -> None:
        """A connection is over."""
        self._connections.discard(connection)

    def tell(self, text: str, *arguments: object) -> None:
        """Log a warning that anybody who can connect may cause, as often as they like."""
        self._log_limit.tell(text, logging.WARNING, text, *arguments)

    def _listener(self) -> socket.socket:
        place = (self.settings.address, self.settings.port)
        family = socket.AF_INET6 if ":" in self.settings.address else socket.AF_INET
        try:
            return socket.create_server(place, family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
        # At boot the network may come later than we do.
        log.warning("USB/IP: no interface has the address %s yet", self.settings.address)
        self.is_early = True
        return _listen_early(place, family)

    async def _accept(self, listener: socket.socket) -> None:
        """Take who may connect, before TLS costs anything."""
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    sock, address = await loop.sock_accept(listener)
                except OSError as error:  # no descriptor is left, or the peer is gone
                    log.error("USB/IP: a connection cannot be taken: %s", error)
                    await asyncio.sleep(_BREATH)
                    continue
                peer = f"{address[0]} port {address[1]}"
                if refusal := self._refusal(address[0]):
                    text = "USB/IP: %s was refused: %s"
                    self._log_limit.tell(address[0], logging.WARNING, text, peer, refusal)
                    sock.close()
                    continue
                connection = _Connection(self, peer)
                self._connections.add(connection)
                task = loop.create_task(self._join(sock, connection, peer))
                self._joining.add(task)
                task.add_done_callback(self._joining.discard)

    def _refusal(self, address: str) -> str:
        """Why an address may not connect now, or ""."""
        if not self.settings.allows(address):
            return "its address is not allowed"
        if len(self._connections) >= self.settings.max_connections:
            return f"there are {self.settings.max_connections} connections already"
        return ""

    async def _join(self, sock: socket.socket, connection: _Connection, peer: str) -> None:
        """Give the connection its transport, after TLS's handshake where there is TLS."""
        loop = asyncio.get_running_loop()
        tls = self.settings.tls
        try:
            # asyncio sets it only on sockets that it made itself; an APDU is two short writes.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else REQUEST_TIMEOUT,
            )
        except OSError as error:
            reason = str(error) or type(error).__name__
            self.tell("USB/IP: %s did not come in: %s", peer, reason)
            self.forget(connection)
        except asyncio.CancelledError:
            self.forget(connection)
            raise


class _Connection(asyncio.Protocol):
    """One peer: a listing, or an import and its URBs."""

    def __init__(self, server: UsbIpServer, peer: str) -> None:
        self._server = server
        self._receiver = usbip.Receiver()
        self._transport: asyncio.Transport | None = None
        self._peer = peer
        self._reader: UsbReader | None = None
        self._link: UrbLink | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def owns(self, name: str) -> bool:
        """Whether this peer has imported the reader."""
        return self._reader is not None and self._reader.name == name

    async def leave(self) -> None:
        """Let its programs see empty slots before they see none."""
        if self._link is not None:
            await self._link.leave()

    def close(self) -> None:
        """Let the peer go; its kernel unplugs the device."""
        self._end_link()
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_LIMIT)
        # An importer that vanished without a word must not own its reader for ever.
        keep_alive(transport, *_KEEPALIVE)
        self._begin_deadline("no request came in time")

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            if self._link is not None:
                messages = self._receiver.feed(data)
                self._expect_rest(progress=bool(messages))
                self._link.received(messages)
            elif (request := self._receiver.feed_op(data)) is not None:
                self._answer(self._transport, request)
        except RemoteProtocolError as error:
            self._drop(error.message)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.forget(self)
        self._stop_deadline()
        self._end_link()

    def pause_writing(self) -> None:
        """The peer does not read its answers: take no more from it (never the other way)."""
        self._stop_deadline()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- requests ------------------------------------------------------------------------

    def _answer(self, transport: asyncio.Transport, request: usbip.OpMessage) -> None:
        self._stop_deadline()
        if isinstance(request, usbip.RequestDevlist):
            transport.write(usbip.reply_devlist(self._server.records()))
            transport.close()
            return
        reader = self._server.find(request.busid)
        if reader is None:
            self._refuse(transport, request.busid, usbip.OpStatus.NO_DEVICE)
        elif self._server.is_owned(reader.name):
            self._refuse(transport, request.busid, usbip.OpStatus.DEVICE_BUSY)
        else:
            self._import(transport, request.busid, reader)

    def _refuse(self, transport: asyncio.Transport, busid: str, status: usbip.OpStatus) -> None:
        self._server.tell("USB/IP: %s may not import %r: %s", self._peer, busid, status.name)
        transport.write(usbip.refuse_import(status))
        transport.close()

    def _import(self, transport: asyncio.Transport, busid: str, reader: UsbReader) -> None:
        self._reader = reader
        transport.write(usbip.reply_import(self._server.record(busid, reader)))
        self._link = UrbLink(reader, "usbip", self._peer, transport)
        where = {"reader": reader.name}
        log.info("USB/IP: %s imported reader %s", self._peer, reader.name, extra=where)
        early = self._receiver.begin_urbs()
        self._expect_rest(progress=True)
        self._link.received(early)

    # --- the end -------------------------------------------------------------------------

    def _drop(self, reason: str) -> None:
        self._server.tell("USB/IP: %s was dropped: %s", self._peer, reason)
        self.close()

    def _end_link(self) -> None:
        link, self._link = self._link, None
        self._reader = None
        if link is not None:
            link.close()
            log.info("USB/IP: %s is gone", self._peer)

    def _expect_rest(self, *, progress: bool) -> None:
        """A message that began is to end in time; `progress`: one did end."""
        if self._deadline is not None and (progress or not self._receiver.partial):
            self._stop_deadline()
        if self._deadline is None and self._receiver.partial:
            self._begin_deadline("half a message, and no more of it")

    def _begin_deadline(self, reason: str) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(REQUEST_TIMEOUT, self._drop, reason)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
