# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards from afar: listeners, whose clients' readers become readers of the daemon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count

from vccid.backends.far_listener import FarEnd, Limits
from vccid.backends.vpcd import LIMITS, VpcdListener
from vccid.backends.vsc import VscListener
from vccid.errors import ConfigError
from vccid.links.transport import Endpoint
from vccid.reader import Reader
from vccid.readers.guest_endpoints import endpoint
from vccid.settings.config import FarCards, Guests

log = logging.getLogger(__name__)


class ReaderPool:
    """Makes readers for far cards; they are gone with their far ends."""

    def __init__(
        self,
        is_taken: Callable[[str], bool],
        add: Callable[[str], Awaitable[Reader]],
        remove: Callable[[str], Awaitable[None]],
    ) -> None:
        """
        Args:
            is_taken: whether there is a reader of this name.
            add: opens a reader of this name.
            remove: closes it.
        """
        self._is_taken = is_taken
        self._add = add
        self._remove = remove

    async def add(self, name: str, peer: str) -> Reader:
        """A reader far0, far1 ...; `name` is the far end's word and only told."""
        own = next(own for n in count() if not self._is_taken(own := f"far{n}"))
        reader = await self._add(own)
        log.info("reader %r of %s is here", name, peer, extra={"reader": own})
        return reader

    async def remove(self, reader: Reader) -> None:
        # Its far end may be let go meanwhile; half removed it would stay for ever.
        await asyncio.shield(self._remove(reader.name))


#: A listener of either protocol.
AnyListener = VscListener | VpcdListener


class FarCardListener:
    """One protocol's listener as the settings want it; there is none while they name no address."""

    def __init__(self, key: str, make: Callable[[Endpoint, int], AnyListener]) -> None:
        """
        Args:
            key: the setting of [far_cards] that names the address.
            make: makes the listener, for so many readers.
        """
        self._key = key
        self._make = make
        self._wanted = (FarCards(), Guests())
        self._listener: AnyListener | None = None

    async def apply(self, settings: FarCards, guests: Guests) -> None:
        """Listen as the settings say; clients are let go where those have changed.

        Raises:
            ConfigError: the address is none, or is taken.
            NotPermitted: plain TCP beyond this machine that no setting allows.
        """
        if (settings, guests) == self._wanted:
            return
        address = getattr(settings, self._key)
        place = endpoint(address, guests, listen=True) if address else None
        listener = None
        if place is not None and str(place.address) != self.address:
            listener = await self._started(place, settings)  # or else the clients stay
        await self.stop()
        if place is not None and listener is None:
            listener = await self._started(place, settings)
        self._listener, self._wanted = listener, (settings, guests)

    @property
    def address(self) -> str:
        """Where it listens, or ""."""
        return str(self._listener.endpoint.address) if self._listener is not None else ""

    @property
    def peers(self) -> list[str]:
        """Who is connected."""
        return [client.peer for client in self._listener.clients] if self._listener else []

    def find(self, reader: Reader) -> FarEnd | None:
        """The far end of one of our readers."""
        clients = self._listener.clients if self._listener is not None else ()
        readers = (far for client in clients for far in client.readers.values())
        return next((far for far in readers if far.reader is reader), None)

    async def stop(self) -> None:
        """Let every client go. May be repeated."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()
        self._wanted = (FarCards(), Guests())

    async def _started(self, place: Endpoint, settings: FarCards) -> AnyListener:
        listener = self._make(place, settings.readers)
        try:
            await listener.start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen for far cards at {place.address}: {error.strerror or error}",
                f"set another far_cards.{self._key}",
            ) from error
        return listener


class FarCardListeners:
    """Both protocols' listeners: VSC's, and vpcd's.

    Attributes:
        vsc: for vscclient and its like.
        vpcd: for vicc and its like.
    """

    def __init__(self, pool: ReaderPool) -> None:
        self.vsc = FarCardListener(
            "listen", lambda place, readers: VscListener(place, pool, Limits(readers=readers))
        )
        self.vpcd = FarCardListener(
            "vpcd",
            lambda place, readers: VpcdListener(place, pool, replace(LIMITS, readers=readers)),
        )

    async def apply(self, settings: FarCards, guests: Guests) -> None:
        """Listen as the settings say.

        Raises:
            ConfigError, NotPermitted: one of the addresses cannot be had.
        """
        await self.vsc.apply(settings, guests)
        await self.vpcd.apply(settings, guests)

    def find(self, reader: Reader) -> FarEnd | None:
        """The far end of one of our readers."""
        return self.vsc.find(reader) or self.vpcd.find(reader)

    async def stop(self) -> None:
        """Let every client go. May be repeated."""
        await self.vsc.stop()
        await self.vpcd.stop()
