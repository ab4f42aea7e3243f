# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a test's far cards go: readers in a list, and how to wait for what happens there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vccid.reader import Reader


class FarReaders:
    """A `ReaderPool` (vccid.backends.vsc) that only keeps the readers."""

    def __init__(self) -> None:
        self.readers: list[Reader] = []

    async def add(self, name: str, peer: str) -> Reader:
        self.readers.append(Reader("vccid0"))
        return self.readers[-1]

    async def remove(self, reader: Reader) -> None:
        self.readers.remove(reader)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something; the test's time limit ends it."""
    while not condition():
        await asyncio.sleep(0.005)
