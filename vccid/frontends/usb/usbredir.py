# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our USB reader in a QEMU guest, through QEMU's usb-redir: no kernel module, no root.

Dials QEMU, or listens for it (libvirt's <redirdev> can do either); `usbredir_connection` has one
connection. Each new one begins with the device being plugged in, so a guest that was
restarted, or migrated to another QEMU, has its reader again.
"""

from __future__ import annotations

from vccid.frontends.awaited_call import AwaitedCall
from vccid.frontends.dialling import Call, DialledCall, Timing
from vccid.frontends.dialling_states import State
from vccid.frontends.usb.opening import Tries
from vccid.frontends.usb.usb_host import UsbReader
from vccid.frontends.usb.usbredir_connection import RedirLink
from vccid.frontends.usb.usbredir_states import State as Link
from vccid.links.transport import Endpoint


class UsbRedirFrontend:
    """One USB reader shown to one QEMU.

    Attributes:
        peer: who is called, or "" when listening.
    """

    kind = "usbredir"

    def __init__(
        self,
        reader: UsbReader,
        endpoint: Endpoint,
        timing: Timing = Timing(),  # noqa: B008 - frozen
        *,
        listen: bool = False,
    ) -> None:
        """
        Raises:
            NotPermitted: the endpoint is plain TCP beyond loopback.
        """
        self.reader = reader
        self.endpoint = endpoint
        self.peer = "" if listen else str(endpoint.address)
        self._tries = Tries(reader.name)
        kind = AwaitedCall[RedirLink] if listen else DialledCall[RedirLink]
        self._call: Call[RedirLink] = kind(
            reader.name,
            f"usbredir at {endpoint.address}",
            endpoint,
            lambda: RedirLink(reader, self.peer, timing, self._given_up),
            timing,
        )

    @property
    def state(self) -> State:
        """Where the call is."""
        return self._call.state

    @property
    def status(self) -> str:
        """How it stands, in a few words."""
        link = self._call.link
        if link is not None and link.state is Link.REJECTED:
            return "refused: the guest's filter or controller does not take the device"
        return self._call.status

    @property
    def connections(self) -> int:
        """How often QEMU took the device."""
        return self._call.connections

    async def start(self) -> None:
        """Begin to dial or to listen.

        Raises:
            ConfigError: the address to listen at is taken, or not ours to take.
        """
        await self._call.start()

    async def stop(self) -> None:
        """Unplug the device in the guest, hang up, and stop. May be repeated."""
        await self._call.close()

    def _given_up(self) -> None:
        """The next connection plugs it in again."""
        if self._call.link is not None and self._tries.take():
            self._call.link.abort()
