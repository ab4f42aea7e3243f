# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes cards; what that needs is loaded with the first one, not while the daemon starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vccid.card.card import Card
from vccid.card.state import StateStore
from vccid.readers.card_threads import CardThreads
from vccid.readers.readers_json import MadeCard
from vccid.settings.directories import Directories

if TYPE_CHECKING:
    from vccid.backends.certificates import CertificateBackend


class CardMaker:
    """The backends, as the daemon uses them."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._backend: CertificateBackend | None = None
        self._loading = asyncio.Lock()

    async def make(
        self, source: MadeCard, password: bytes | None, pin: bytes | None, tries_kept: int
    ) -> tuple[Card, list[str]]:
        """A new card, and what the user should be warned of, one line each.

        Args:
            tries_kept: PIN tries of a token that no guest can use up.

        Raises:
            KeySourceError: the certificates or keys cannot be had.
            StateError: the card's PIN state cannot be kept.
            VccidError: `pin` is none a card can have.
        """
        backend = await self._certificates()
        from vccid.backends.certificates import CertificateRequest

        request = CertificateRequest(
            source.certificates,
            source.database,
            source.atr,
            source.card,
            source.serial,
            source.in_memory,
            tries_kept,
        )
        card, warnings = await backend.card(request, password=password, pin=pin)
        return card, warnings

    async def _certificates(self) -> CertificateBackend:
        """The one for all cards: it knows which PINs were wrong for which token."""
        async with self._loading:
            if self._backend is None:
                # Importing takes a tenth of a second, which no host should have to wait for.
                self._backend = await asyncio.to_thread(self._load)
            return self._backend

    def _load(self) -> CertificateBackend:
        from vccid.backends.certificates import CertificateBackend

        return CertificateBackend(
            StateStore(self._directories.state / "cards"),
            CardThreads,
            self._directories.credentials,
        )
