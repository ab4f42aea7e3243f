# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is kept of the readers for the next start, and what goes wrong with that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from vccid.errors import StateError
from vccid.readers.managed_reader import ManagedReader
from vccid.readers.readers_json import Entry, ReadersFile

log = logging.getLogger(__name__)


class Persistence:
    """Keeps what a start brings back."""

    def __init__(self, state: Path, managed_readers: Mapping[str, ManagedReader]) -> None:
        """`state` is the daemon's folder of state; `managed_readers` its readers, by name."""
        self._file = ReadersFile(state)
        self._managed_readers = managed_readers
        self._damaged: StateError | None = None
        self._unkept: StateError | None = None
        self._tasks: set[asyncio.Task[list[str]]] = set()

    @property
    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        return [error.message for error in (self._damaged, self._unkept) if error is not None]

    def load(self) -> Mapping[str, Entry]:
        """What was kept, by reader's name; of records that are damaged, nothing."""
        try:
            return self._file.load()
        except StateError as error:
            self._damaged = error
            log.error("%s; %s", error.message, error.hint)
            return {}

    async def keep(self) -> None:
        """Keep how the readers are.

        Raises:
            StateError: it cannot be written; what was kept before still is.
        """
        entries = {name: managed.entry for name, managed in self._managed_readers.items()}
        try:
            await self._file.save({name: entry for name, entry in entries.items() if entry})
            self._unkept = None
        except StateError as error:
            self._unkept = error
            log.error("%s; %s", error.message, error.hint)
            raise

    async def keep_or_warn(self, lost: str) -> list[str]:
        """Keep what can be kept; where it cannot, what was done stays done.

        Args:
            lost: what a restart will undo.

        Returns:
            What to warn the user of, one line each.
        """
        try:
            await self.keep()
        except StateError as error:
            return [f"{lost}: {error.message}"]
        return []

    def keep_soon(self) -> None:
        """Keep what can be kept, for who cannot wait."""
        task = asyncio.ensure_future(self.keep_or_warn(""))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
