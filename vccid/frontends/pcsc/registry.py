# SPDX-License-Identifier: LGPL-2.1-or-later
"""What all programs share: the list of readers, and who waits for a change of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Container, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol

from vccid.frontends.pcsc.machines import WaitEvent
from vccid.frontends.pcsc.shown_reader import ShownReader
from vccid.reader import Reader
from vccid.wire.pcsclite import ENTRY_SIZE, NAME_SIZE, OLD_ENTRIES, serialize_entries

if TYPE_CHECKING:
    from vccid.frontends.pin_pad import PinPad

log = logging.getLogger(__name__)

#: A context's or a handle's number: signed in the client, and never 0.
_MOST_NUMBER: Final = 0x7FFFFFFF
#: 15 bits, and 0 means to a client that it has none yet.
_MOST_EVENTS: Final = 0x7FFF


class Waiter(Protocol):
    """A program, as one that may wait: `waiter.ProgramWaiter`."""

    def step(self, event: WaitEvent) -> None: ...


class Registry:
    """Readers, contexts and handles of one door.

    Attributes:
        readers: by place in the list; None where one has gone.
        events: how often readers came and went.
        waiting: programs that are to be told of the next change.
        contexts: by number.
        handles: the numbers in use.
        old_entries: readers in the list for libpcsclite before 2.5, which has it compiled in.
        entries: the same for 2.5 and on, which must never become less.
    """

    def __init__(self, old_entries: int = OLD_ENTRIES, entries: int = 64) -> None:
        self.readers: list[ShownReader | None] = []
        self.events = 1
        self.waiting: set[Waiter] = set()
        self.contexts: dict[int, Waiter] = {}
        self.handles: set[int] = set()
        self.old_entries = old_entries
        self.entries = entries
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, reader: Reader, serial: str, pin_pad: PinPad | None) -> ShownReader:
        """Show one more reader, at the first free place."""
        try:
            place = self.readers.index(None)
        except ValueError:
            place = len(self.readers)
            self.readers.append(None)
        if place == self.entries:
            log.warning(
                "programs of PC/SC can see %d readers and no more: raise pcsc.readers", place
            )
        # As pcscd names our driver's: behind it, the numbers of reader and slot.
        name = reader.label.encode()[: NAME_SIZE - 8] + b" %02X 00" % place
        shown = self.readers[place] = ShownReader(reader, name, serial, pin_pad, self.changed)
        self._came_or_went()
        return shown

    def remove(self, shown: ShownReader) -> None:
        """A reader is gone, and all handles with it."""
        self.readers[self.readers.index(shown)] = None
        shown.leave()
        self._came_or_went()

    def find(self, name: bytes) -> ShownReader | None:
        """The reader of this name."""
        for shown in self.readers:
            if shown is not None and shown.slot.name == name:
                return shown
        return None

    def states(self, raw: Iterable[ShownReader], *, new: bool) -> bytes:
        """The list of readers, as a program reads it.

        Args:
            raw: where the program prefers RAW.
            new: whether its library is one of 2.5 or later.
        """
        entries = [
            bytes(ENTRY_SIZE) if shown is None else shown.slot.entry(raw=shown in raw).serialize()
            for shown in self.readers
        ]
        return serialize_entries(entries, self.entries if new else self.old_entries)

    def changed(self) -> None:
        """Tell whoever waits to look again."""
        for waiter in tuple(self.waiting):
            waiter.step(WaitEvent.CHANGE)

    def keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what outlives its program."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Show no reader any more."""
        for shown in self.readers:
            if shown is not None:
                shown.leave()
        self.readers.clear()
        for task in tuple(self._tasks):
            task.cancel()

    def _came_or_went(self) -> None:
        self.events = self.events % _MOST_EVENTS + 1
        self.changed()


def new_number(taken: Container[int]) -> int:
    """A number nobody has or can guess, for a context or a handle."""
    while (number := secrets.randbelow(_MOST_NUMBER) + 1) in taken:
        pass
    return number
