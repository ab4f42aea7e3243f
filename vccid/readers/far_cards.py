# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards from afar: a VSC listener, whose clients' readers become readers of the daemon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import count

from vccid.backends.far_card import FarReader, Limits
from vccid.backends.vsc import VscListener
from vccid.errors import ConfigError
from vccid.reader import Reader
from vccid.readers.guest_endpoints import endpoint
from vccid.settings.config import FarCards, Guests
from vccid.transport import Endpoint

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


class FarCardListener:
    """The listener as the settings want it; there is none while they name no address."""

    def __init__(self, pool: ReaderPool) -> None:
        self._pool = pool
        self._wanted = (FarCards(), Guests())
        self._listener: VscListener | None = None

    async def apply(self, settings: FarCards, guests: Guests) -> None:
        """Listen as the settings say; clients are let go where those have changed.

        Raises:
            ConfigError: the address is none, or is taken.
            NotPermitted: plain TCP beyond this machine that no setting allows.
        """
        if (settings, guests) == self._wanted:
            return
        place = endpoint(settings.listen, guests, listen=True) if settings.listen else None
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

    def find(self, reader: Reader) -> FarReader | None:
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

    async def _started(self, place: Endpoint, settings: FarCards) -> VscListener:
        listener = VscListener(place, self._pool, Limits(readers=settings.readers))
        try:
            await listener.start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen for far cards at {settings.listen}: {error.strerror or error}",
                "set another far_cards.listen",
            ) from error
        return listener
