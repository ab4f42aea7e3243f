# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes cards; what that needs is loaded with the first one, not while the daemon starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vccid.card.card import Card
from vccid.card.state import StateStore
from vccid.readers.card_threads import CardThreads
from vccid.readers.readers_json import MadeCard
from vccid.settings.config import Pkcs11
from vccid.settings.directories import Directories
from vccid.settings.looks import atr_bytes

if TYPE_CHECKING:
    from vccid.backends.certificates import CertificateBackend
    from vccid.keys.worker.workers import Workers


def load() -> None:
    """Load all that the first card would have loaded."""
    from vccid.backends import certificates  # noqa: F401
    from vccid.keys.worker import workers  # noqa: F401


class CardMaker:
    """The backends, as the daemon uses them.

    Attributes:
        settings: how PKCS#11 modules are run; replaced when they are read again.
    """

    def __init__(self, directories: Directories, settings: Pkcs11) -> None:
        self.settings = settings
        self._directories = directories
        self._backend: CertificateBackend | None = None
        self._loading = asyncio.Lock()

    async def prepare(self) -> None:
        """Have the process that makes a PKCS#11 module's come at once, before it is asked for."""
        await asyncio.to_thread(lambda: self._workers.prepare())

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
        await asyncio.to_thread(lambda: self._workers)
        from vccid.backends.certificates import CertificateRequest

        request = CertificateRequest(
            source.certificates,
            source.database,
            "t1" if source.atr == "t1" else "cac",
            source.card,
            source.serial,
            source.in_memory,
            tries_kept,
            (*self.settings.environment, *source.environment),
            atr_bytes(source.atr),
            source.profile,
            source.number,
            source.secure_messaging,
            source.printed_information,
            source.facial_image,
        )
        card, warnings = await backend.card(request, password=password, pin=pin)
        return card, warnings

    @property
    def _workers(self) -> Workers:
        from vccid.keys.worker.workers import WORKERS

        WORKERS.timeout = float(self.settings.timeout)
        return WORKERS

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
