# SPDX-License-Identifier: LGPL-2.1-or-later
"""The reader as a USB device of this host: the kernel's vhci_hcd at the other end of a socket.

The kernel takes one end of a socket pair through sysfs and speaks the URB phase of USB/IP on
it. It unplugs the device when our end closes, however we end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from vccid.errors import RemoteProtocolError, VccidError
from vccid.frontends.usb.opening import Tries
from vccid.frontends.usb.urb_connection import UrbLink
from vccid.frontends.usb.usb_host import UsbReader
from vccid.frontends.usb.vhci_ports import Ports, PortState
from vccid.wire import usbip

log = logging.getLogger(__name__)

#: devid: bus 1, device 1. The kernel gives it back and asks nothing more of it.
_DEVICE_ID: Final = 0x00010001
#: Seconds a port may take to be free again after a device has left it, and between two looks.
_FREE_TIMEOUT: Final = 5.0
_FREE_POLL: Final = 0.02


class VhciFrontend:
    """Shows one reader to this host's kernel."""

    def __init__(
        self,
        reader: UsbReader,
        lost: Callable[[], None] = lambda: None,
        ports: Ports | None = None,
    ) -> None:
        """
        Args:
            lost: the kernel let go by itself (`usbip detach`); not called after `stop`.
        """
        self.reader = reader
        self._lost = lost
        self._ports = ports or Ports()
        self._attached: _Attached | None = None
        self._tries = Tries(reader.name)
        self._trying: asyncio.Task[None] | None = None

    @property
    def status(self) -> str:
        """How it stands, for people."""
        return "detached" if self._attached is None else f"port {self._attached.port} of vhci_hcd"

    async def start(self) -> None:
        """Attach: afterwards the kernel enumerates the device.

        Raises:
            ReaderError: vhci-hcd is not loaded, or no port is free.
            NotPermitted: its files are closed to the daemon.
        """
        await self._attach()

    async def _attach(self) -> None:
        ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with kernels:
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            _, protocol = await loop.create_unix_connection(
                lambda: _Connection(self.reader, self._closed, self._given_up), sock=ours
            )
            try:
                port = self._ports.attach(kernels.fileno(), _DEVICE_ID, self.reader.speed)
            except BaseException:
                protocol.close()
                raise
        self._attached = _Attached(port, protocol)
        protocol.attached(f"port {port}")
        log.info("attached to vhci port %d", port, extra={"reader": self.reader.name})

    async def stop(self) -> None:
        """Detach, and wait until the port is free for the next."""
        trying, self._trying = self._trying, None
        if trying is not None:
            trying.cancel()
            await asyncio.wait([trying])
        attached, self._attached = self._attached, None
        if attached is None:
            return
        try:
            await attached.connection.leave()
        finally:
            attached.connection.close()
        await self._port_free(attached.port)

    async def _port_free(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FREE_TIMEOUT
        while not self._is_free(number) and loop.time() < deadline:
            await asyncio.sleep(_FREE_POLL)

    def _is_free(self, number: int) -> bool:
        try:
            ports = self._ports.read()
        except (VccidError, OSError):  # the module was unloaded meanwhile
            return True
        return all(port.state is PortState.FREE for port in ports if port.number == number)

    def _closed(self, connection: _Connection) -> None:
        """Our end was closed by the kernel."""
        if self._attached is not None and self._attached.connection is connection:
            self._attached = None
            log.info("the kernel detached it", extra={"reader": self.reader.name})
            self._lost()

    def _given_up(self) -> None:
        """The host's driver took the reader for a broken one: a new one it opens again."""
        if self._tries.take():
            self._trying = asyncio.ensure_future(self._attach_again())

    async def _attach_again(self) -> None:
        attached, self._attached = self._attached, None
        if attached is None:
            return
        attached.connection.close()
        await self._port_free(attached.port)
        try:
            await self._attach()
        except (VccidError, OSError) as error:
            log.error("not plugged in again: %s", error, extra={"reader": self.reader.name})
            self._lost()


@dataclass(frozen=True, slots=True)
class _Attached:
    """What there is of an attachment: the number of vhci_hcd's port, and our end."""

    port: int
    connection: _Connection


class _Connection(asyncio.Protocol):
    """Our end of the socket pair."""

    def __init__(
        self,
        reader: UsbReader,
        closed: Callable[[_Connection], None],
        given_up: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._closed = closed
        self._given_up = given_up
        self._receiver = usbip.Receiver(imported=True)
        self._transport: asyncio.Transport | None = None
        self._link: UrbLink | None = None

    def attached(self, port: str) -> None:
        """The kernel has the other end: the reader has a host from now on."""
        if self._transport is not None:
            self._link = UrbLink(self._reader, "vhci", port, self._transport, self._given_up)
            self._transport.resume_reading()

    async def leave(self) -> None:
        """Let the kernel's programs see empty slots before they see none."""
        if self._link is not None:
            await self._link.leave()

    def close(self) -> None:
        """Unplug."""
        self._end_link()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._link is None:
            return
        try:
            self._link.received(self._receiver.feed(data))
        except RemoteProtocolError as error:
            log.error("the kernel: %s", error.message, extra={"reader": self._reader.name})
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end_link()
        self._closed(self)

    def _end_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
