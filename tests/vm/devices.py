# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU arguments for USB and smart cards, to be put together in `GuestOptions.qemu`.

    GUEST = GuestOptions(qemu=[*usb_controller(), *usb_ccid_passthru(socket_path)])

Only UHCI: on qemu-xhci, QEMU's own usb-ccid loses step with libccid. A guest that boots
without systemd loads the controller's driver by udev's coldplug, a moment after its first
command can run: wait for the device, not for the boot.
"""

import pathlib
from collections.abc import Sequence

#: The id of the controller's bus, for `bus=` and for device_add.
USB_BUS = "uhci.0"


def usb_controller() -> list[str]:
    """A full-speed USB controller of two ports."""
    return ["-device", "piix3-usb-uhci,id=uhci"]


def usb_ccid_emulated(database: pathlib.Path, nicknames: Sequence[str]) -> list[str]:
    """QEMU's own reader with libcacard's card in it, from an NSS database on the host.

    The PIN of the card is the database's password. This is what vccid is measured against.
    """
    certificates = "".join(f",cert{n}={name}" for n, name in enumerate(nicknames, start=1))
    card = f"ccid-card-emulated,backend=certificates,db=sql:{database}{certificates}"
    return [*_usb_ccid(), "-device", card]


def usb_ccid_passthru(path: pathlib.Path, *, listening: bool = True) -> list[str]:
    """QEMU's own reader for a card that comes over the VSC protocol, at a unix socket.

    QEMU listens there without waiting for a client; or dials, with a second between tries.
    """
    return [
        *_chardev("vsc", path, listening),
        *_usb_ccid(),
        *("-device", "ccid-card-passthru,chardev=vsc"),
    ]


def usb_redir(path: pathlib.Path, *, listening: bool = True) -> list[str]:
    """A USB device that comes over the usbredir protocol, at a unix socket, as above."""
    return [
        *_chardev("redir", path, listening),
        *("-device", f"usb-redir,chardev=redir,bus={USB_BUS}"),
    ]


def _usb_ccid() -> list[str]:
    return ["-device", f"usb-ccid,bus={USB_BUS}"]


def _chardev(name: str, path: pathlib.Path, listening: bool) -> list[str]:
    how = "server=on,wait=off" if listening else "reconnect=1"
    return ["-chardev", f"socket,id={name},path={path},{how}"]
