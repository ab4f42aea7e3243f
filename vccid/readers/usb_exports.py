# SPDX-License-Identifier: LGPL-2.1-or-later
"""Readers as USB devices: how they look, and the USB/IP server that exports some of them."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Final

from vccid.errors import ConfigError, ReaderError
from vccid.frontends.pin_pad import PinPad
from vccid.frontends.usb.usb_host import UsbReader
from vccid.frontends.usb.usbip_server import Network, UsbIpServer, UsbIpSettings
from vccid.links import tls
from vccid.reader import Reader
from vccid.settings.config import ReaderSettings, Usb, UsbIp
from vccid.usb.descriptors import PRODUCT, Identity, Speed

_SPEEDS: Final = {"full": Speed.FULL, "high": Speed.HIGH, "super": Speed.SUPER}


def usb_reader(
    slots: Sequence[tuple[Reader, PinPad | None]], serial: str, look: Usb, own: ReaderSettings
) -> UsbReader:
    """A reader as one USB device, with those that are its further slots.

    Args:
        serial: its serial number.
        look: of all USB devices.
        own: its own settings.
    """
    readers, pin_pads = zip(*slots, strict=True)
    reader = readers[0]
    return UsbReader(
        name=reader.name,
        slots=readers,
        identity=Identity(
            vendor_id=int(look.vendor_id, 16),
            product_id=int(look.product_id, 16),
            serial=serial,
            label=reader.label,
            product=own.usb_product or PRODUCT,
        ),
        pin_pads=pin_pads,
        speed=_SPEEDS[look.speed],
    )


class Exports:
    """The readers other hosts may import; the server listens while there is one."""

    def __init__(self, settings: UsbIp) -> None:
        self._settings = settings
        #: by bus id
        self._readers: dict[str, UsbReader] = {}
        self._server: UsbIpServer | None = None
        #: Held while the server comes or goes: two would want the same port.
        self._changing = asyncio.Lock()

    async def apply(self, settings: UsbIp) -> None:
        """Serve as new settings want it; importers are let go where those have changed.

        Where that fails, all stays as it was.

        Raises:
            ConfigError: the address cannot be had, or the settings do not go together.
        """
        async with self._changing:
            if self._readers:
                wanted = _server(settings)
                if self._server is None or settings != self._settings:
                    await self._replace(wanted)
                else:
                    self._server.settings = wanted  # renewed TLS files
            self._settings = settings

    async def add(self, busid: str, reader: UsbReader) -> None:
        """Export a reader.

        Raises:
            ReaderError: the bus id is taken.
            ConfigError: as `apply`.
        """
        async with self._changing:
            if busid in self._readers:
                raise ReaderError(
                    f"bus id {busid} is reader {self._readers[busid].name}'s", "choose another"
                )
            if self._server is None:
                self._server = await self._started(_server(self._settings))
            self._readers[busid] = reader

    async def remove(self, busid: str) -> None:
        """Export it no longer; with the last one the server ends."""
        async with self._changing:
            reader = self._readers.pop(busid, None)
            server = self._server
            if reader is None or server is None:
                return
            if not self._readers:
                self._server = None
                await server.stop()
        # Not within: each importer may take its time.
        await server.drop(reader.name)

    @property
    def place(self) -> str:
        """Where the readers are to be had, for people."""
        if self._server is None:
            return "not listening"
        host, port = self._server.address
        early = ", an address that no interface had" if self._server.is_early else ""
        return f"{host} port {port}{early}"

    async def _replace(self, wanted: UsbIpSettings) -> None:
        had = self._server
        if had is None or had.settings.port != wanted.port:
            self._server = await self._started(wanted)
            if had is not None:
                await had.stop()
            return
        # Both want the same port, so the one ends before the other starts.
        self._server = None
        await had.stop()
        try:
            self._server = await self._started(wanted)
        except ConfigError:
            self._server = await self._started(had.settings)
            raise

    async def _started(self, settings: UsbIpSettings) -> UsbIpServer:
        server = UsbIpServer(lambda: self._readers, settings)
        await server.start()
        return server


class UsbIpFrontend:
    """One reader's part in the USB/IP server."""

    def __init__(self, reader: UsbReader, busid: str, exports: Exports) -> None:
        self._reader = reader
        self._busid = busid
        self._exports = exports

    @property
    def status(self) -> str:
        return f"bus id {self._busid} at {self._exports.place}"

    async def start(self) -> None:
        await self._exports.add(self._busid, self._reader)

    async def stop(self) -> None:
        await self._exports.remove(self._busid)


def _server(settings: UsbIp) -> UsbIpSettings:
    return UsbIpSettings(
        address=_address(settings.address),
        port=settings.port,
        allow=tuple(_network(text) for text in settings.allow),
        max_connections=settings.connections,
        tls=tls.context(
            tls.Files(
                "usbip", settings.tls_certificate, settings.tls_key, settings.tls_authorities
            ),
            server=True,
        ),
    )


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ConfigError(
            f"usbip.address: {text!r} is no IP address", "a number, such as 192.0.2.7 or ::1"
        ) from error


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"usbip.allow: {text!r} is no IP network", "such as 192.0.2.0/24 or 192.0.2.7"
        ) from error
