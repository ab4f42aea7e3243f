# SPDX-License-Identifier: LGPL-2.1-or-later
"""vhci_hcd's ports, through sysfs: which are free, and attach one.

Source: Linux, drivers/usb/usbip/vhci_sysfs.c. The control files belong to the first
controller and serve them all; who may write them is a matter of their mode alone. A device leaves
its port when our end of the socket closes, so "detach" is never written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from vccid.errors import NotPermitted, ReaderError
from vccid.usb.descriptors import Speed

SYSFS: Final = Path("/sys/devices/platform/vhci_hcd.0")

_LOAD: Final = "load it: modprobe vhci-hcd (and at every start: /etc/modules-load.d)"
_PERMIT: Final = (
    "with the package's udev rule: udevadm trigger /sys/devices/platform/vhci_hcd.0;"
    " else give it to the daemon's user: see docs/ccid.md"
)


class PortState(IntEnum):
    """enum usbip_device_status, the client's side."""

    FREE = 4
    NOT_ASSIGNED = 5
    USED = 6
    ERROR = 7


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a virtual root hub.

    Attributes:
        hub: "hs", or "ss" for SuperSpeed.
        number: global; attach takes it.
        device_id: bus and device number of the exporting side, 0 while free.
        bus_id: what this kernel calls the device, "0-0" while there is none.
    """

    hub: str
    number: int
    state: PortState
    device_id: int
    bus_id: str


def parse_status(text: str) -> Iterator[Port]:
    """The ports of one status file; lines and columns that are not understood are passed over."""
    header, *lines = text.splitlines() or [""]
    columns = header.split()
    for line in lines:
        row = dict(zip(columns, line.split(), strict=False))
        try:
            yield Port(
                row["hub"],
                int(row["port"]),
                PortState(int(row["sta"])),
                int(row["dev"], 16),
                row["local_busid"],
            )
        except (KeyError, ValueError):
            continue


class Ports:
    """The ports of this kernel's vhci_hcd."""

    def __init__(self, sysfs: Path = SYSFS) -> None:
        self._sysfs = sysfs

    def read(self) -> list[Port]:
        """All ports of all controllers.

        Raises:
            ReaderError: vhci-hcd is not loaded.
        """
        files = sorted(self._sysfs.glob("status*"))
        if not files:
            raise ReaderError("this kernel's vhci-hcd is not loaded", _LOAD)
        return [port for file in files for port in parse_status(file.read_text())]

    def attach(self, socket_fd: int, device_id: int, speed: Speed) -> int:
        """Give the kernel one end of a stream socket; returns the port it is at.

        The kernel keeps a reference of its own: the caller closes `socket_fd` then.

        Raises:
            ReaderError: vhci-hcd is not loaded, or no port is free.
            NotPermitted: the attach file is closed to the daemon.
        """
        hub = "ss" if speed >= Speed.SUPER else "hs"
        for port in self.read():
            if port.hub != hub or port.state is not PortState.FREE:
                continue
            try:
                self._write("attach", f"{port.number} {socket_fd} {device_id} {speed:d}")
            except OSError as error:
                if error.errno != errno.EBUSY:  # another process was quicker: the next one
                    raise self._refused("attach", error) from error
            else:
                return port.number
        raise ReaderError(
            f"no port of vhci-hcd's {hub} hubs is free",
            "detach a device: usbip port, usbip detach -p PORT",
        )

    def _write(self, name: str, content: str) -> None:
        # One write, as the kernel parses each by itself.
        descriptor = os.open(self._sysfs / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, content.encode("ascii"))
        finally:
            os.close(descriptor)

    def _refused(self, name: str, error: OSError) -> ReaderError | NotPermitted:
        path = self._sysfs / name
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return NotPermitted(f"{path} cannot be written by the daemon", _PERMIT)
        if error.errno == errno.ENOENT:
            return ReaderError("this kernel's vhci-hcd is not loaded", _LOAD)
        return ReaderError(f"{path}: {os.strerror(error.errno or 0)}", "the kernel's log says why")
