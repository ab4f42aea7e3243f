# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our card in a QEMU guest: the client of QEMU's ccid-card-passthru, as vscclient is.

`VscFrontend` dials, and dials again whenever QEMU was gone; `vsc_connection` has one connection.
"""

from __future__ import annotations

from vccid.frontends.dialling import DialledCall, Timing
from vccid.frontends.dialling_states import State
from vccid.frontends.guest.vsc_connection import VscGuest, VscLink
from vccid.links.transport import Endpoint
from vccid.reader import Reader


class VscFrontend(VscGuest):
    """One reader shown to one QEMU."""

    def __init__(self, reader: Reader, endpoint: Endpoint, timing: Timing = Timing()) -> None:  # noqa: B008 - frozen
        """
        Raises:
            NotPermitted: the endpoint is plain TCP beyond loopback.
        """
        super().__init__(reader, str(endpoint.address))
        self._call: DialledCall[VscLink] = DialledCall(
            reader.name, f"guest at {self.peer}", endpoint, lambda: VscLink(self, timing), timing
        )

    @property
    def state(self) -> State:
        """Where the call is."""
        return self._call.state

    @property
    def status(self) -> str:
        """How it stands, in a few words."""
        return ": ".join(filter(None, (self._call.status, self.refusal)))

    @property
    def trouble(self) -> str:
        """What last went wrong, or ""."""
        return self.refusal or self._call.trouble

    @property
    def connections(self) -> int:
        """How often QEMU took the reader."""
        return self._call.connections

    def card_changed(self) -> None:
        if self._call.link is not None:
            self._call.link.look()

    async def start(self) -> None:
        """Begin to dial."""
        await self._call.start()

    async def stop(self) -> None:
        """Take card and reader out of the guest, hang up, and stop. May be repeated."""
        await self._call.close()
