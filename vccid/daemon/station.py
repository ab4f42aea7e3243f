# SPDX-License-Identifier: LGPL-2.1-or-later
"""One reader with all that belongs to it: its frontends, and what was put into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from vccid.daemon.config import ReaderSettings
from vccid.daemon.inventory import Entry, Wanted
from vccid.errors import VccidError
from vccid.reader import Event, Reader


class Frontend(Protocol):
    """What shows a reader to one kind of host."""

    async def start(self) -> None:
        """Begin; raises ConfigError where the place cannot be had."""

    async def stop(self) -> None:
        """Let every host go. May be repeated."""


class Station:
    """A reader and its surroundings.

    Attributes:
        reader: the slot.
        declared: in the settings, not added at run time.
        settings: what it is to be.
        wanted: the certificates put in last, in the reader or waiting for what they lack.
        problem: why the card that is wanted is not in, or None.
        lock: held while a card goes in or out.
    """

    def __init__(
        self,
        name: str,
        settings: ReaderSettings,
        *,
        declared: bool,
        runtime: Path,
        publish: Callable[[Event], None],
    ) -> None:
        self.reader = Reader(name, publish)
        self.declared = declared
        self.settings = settings
        self.wanted: Wanted | None = None
        self.problem: VccidError | None = None
        self.lock = asyncio.Lock()
        self._runtime = runtime
        self._frontends: dict[str, Frontend] = {}

    @property
    def name(self) -> str:
        """The reader's name."""
        return self.reader.name

    @property
    def frontends(self) -> list[str]:
        """The kinds of host it is shown to."""
        return sorted(self._frontends)

    @property
    def entry(self) -> Entry | None:
        """What is to be kept of it, or None where the settings say everything."""
        if self.declared and self.wanted is None:
            return None
        return Entry(added=not self.declared, wanted=self.wanted)

    async def apply(self, settings: ReaderSettings) -> None:
        """Start and stop frontends until they are as the settings want them.

        Raises:
            ConfigError: a frontend's place cannot be had.
        """
        self.settings = settings
        await self._switch("ifd", settings.ifd, self._make_ifd)

    async def close(self) -> None:
        """Take the card out and let every host go."""
        if self.reader.card is not None:
            self.reader.remove()
        for kind in self.frontends:
            await self._frontends.pop(kind).stop()

    async def _switch(self, kind: str, wanted: bool, make: Callable[[], Frontend]) -> None:
        if wanted and kind not in self._frontends:
            frontend = make()
            await frontend.start()
            self._frontends[kind] = frontend
        elif not wanted and kind in self._frontends:
            await self._frontends.pop(kind).stop()

    def _make_ifd(self) -> Frontend:
        from vccid.frontends.ifd import IfdFrontend

        return IfdFrontend(self.reader, self._runtime / f"{self.name}.ifd")
