# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes frontends; what each kind needs is loaded with the first of its kind."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vccid.reader import Reader
from vccid.readers.attachments import Attachment, Frontend
from vccid.readers.serial_numbers import SerialNumbers
from vccid.settings.config import ReaderSettings, Settings

if TYPE_CHECKING:
    from vccid.frontends.pin_pad import PinPad
    from vccid.frontends.usb.usb_host import UsbReader
    from vccid.readers.pcsc_doors import Doors
    from vccid.readers.usb_exports import Exports


class FrontendMaker:
    """The frontends, as the daemon uses them.

    Attributes:
        settings: how they are to be; for those made from now on.
        may_use: whether whoever connected may use the readers as a program of PC/SC.
    """

    def __init__(self, runtime: Path, serials: SerialNumbers, settings: Settings) -> None:
        self.settings = settings
        self.may_use: Callable[[socket.socket], bool] = lambda connected: False
        self._runtime = runtime
        self._serials = serials

    def make(
        self,
        attachment: Attachment,
        slots: Sequence[tuple[Reader, PinPad | None]],
        lost: Callable[[], None],
        own: ReaderSettings,
    ) -> Frontend:
        """The frontend of an attachment, not started yet.

        Args:
            slots: the reader and its PIN pad, then its USB device's further slots.
            lost: to be called when the other end lets go for good by itself.
            own: the reader's settings.

        Raises:
            ConfigError, NotPermitted: the address is none, or may not be used.
        """
        reader, pin_pad = slots[0]
        serial = self._serials.of(reader.name, own.usb_serial)
        match attachment.kind:
            case "ifd":
                from vccid.frontends.pcsc.driver import IfdFrontend

                path = self._runtime / f"{reader.name}.ifd"
                return IfdFrontend(reader, path, serial, pin_pad=pin_pad)
            case "pcsc":
                from vccid.readers.pcsc_doors import PcscFrontend

                door = Path(attachment.address) if attachment.address else self._doors.usual
                return PcscFrontend(reader, serial, pin_pad, self._doors, door)
            case "vsc" | "vpicc":
                return self._for_guest(attachment, reader)
            case "pty" | "tty":
                return self._at_line(attachment, reader, pin_pad, lost)
            case "cuse":
                from vccid.frontends.node.device_node import CuseFrontend

                return CuseFrontend(reader, lost)
            case "vhci" | "usbip" | "usbredir":
                from vccid.readers.usb_exports import usb_reader

                shown = usb_reader(slots, serial, self.settings.usb, own)
                return self._at_usb(attachment, shown, lost)

    def _for_guest(self, attachment: Attachment, reader: Reader) -> Frontend:
        from vccid.readers.guest_endpoints import endpoint

        place = endpoint(attachment.address, self.settings.guests)
        if attachment.kind == "vsc":
            from vccid.frontends.guest.vsc import VscFrontend

            return VscFrontend(reader, place)
        from vccid.frontends.guest.vpicc import VpiccFrontend

        return VpiccFrontend(reader, place)

    def _at_line(
        self,
        attachment: Attachment,
        reader: Reader,
        pin_pad: PinPad | None,
        lost: Callable[[], None],
    ) -> Frontend:
        if attachment.kind == "tty":
            from vccid.frontends.serial.tty import TtyFrontend

            return TtyFrontend(reader, Path(attachment.address), lost, pin_pad=pin_pad)
        from vccid.frontends.serial.pty import PtyFrontend

        path = Path(attachment.address or self._runtime / f"{reader.name}.tty")
        look = self.settings.pty
        return PtyFrontend(reader, path, pin_pad=pin_pad, group=look.group, mode=int(look.mode, 8))

    def _at_usb(
        self, attachment: Attachment, shown: UsbReader, lost: Callable[[], None]
    ) -> Frontend:
        if attachment.kind == "usbip":
            from vccid.readers.usb_exports import UsbIpFrontend

            return UsbIpFrontend(shown, attachment.address, self._exports)
        if attachment.kind == "usbredir":
            from vccid.frontends.usb.usbredir import UsbRedirFrontend
            from vccid.readers.guest_endpoints import endpoint

            listen = attachment.listen
            place = endpoint(attachment.address, self.settings.guests, listen=listen)
            return UsbRedirFrontend(shown, place, listen=listen)
        from vccid.frontends.usb.vhci import VhciFrontend

        return VhciFrontend(shown, lost)

    async def apply(self, settings: Settings) -> None:
        """Take new settings; the USB/IP server follows at once.

        Raises:
            ConfigError: its address cannot be had; all stays as it was.
        """
        if "_exports" in self.__dict__:
            await self._exports.apply(settings.usbip)
        if "_doors" in self.__dict__:
            self._doors.apply(settings.pcsc)
        self.settings = settings

    def stop(self) -> None:
        """Close what stays open without readers."""
        if "_doors" in self.__dict__:
            self._doors.stop()

    @cached_property
    def _doors(self) -> Doors:
        from vccid.readers.pcsc_doors import Doors

        return Doors(self._runtime / "pcscd.comm", self.settings.pcsc, self.may_use)

    @cached_property
    def _exports(self) -> Exports:
        from vccid.readers.usb_exports import Exports

        return Exports(self.settings.usbip)
