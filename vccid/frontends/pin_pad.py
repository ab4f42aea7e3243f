# SPDX-License-Identifier: LGPL-2.1-or-later
"""The key pad of a reader: a host asks for a PIN, `vccidctl pin enter` types it.

The PIN lives here only from the call that brings it to the command it completes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from vccid.ccid.pin_entry import PinEnd, PinRequest
from vccid.errors import ReaderError

#: Seconds for an entry where the host's bTimeOut is 0.
DEFAULT_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One entry a host waits for.

    Attributes:
        host: who asks, for people.
        id: names this entry and never another, of this daemon or a later one.
    """

    host: str
    request: PinRequest
    _answer: asyncio.Future[tuple[str, ...] | PinEnd] = field(repr=False)
    id: str = field(default_factory=lambda: os.urandom(8).hex())

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._answer.done()

    def enter(self, pins: Sequence[str]) -> None:
        """Type what it asks for: one PIN for each of its prompts.

        Raises:
            ReaderError: it is over, or these are not the digits it takes; then it goes on.
        """
        request = self.request
        if len(pins) != len(request.prompts):
            raise ReaderError(
                f"this entry takes {len(request.prompts)} PINs", f"in order: {request.prompts}"
            )
        for pin in pins:
            digits = pin.isascii() and pin.isdigit()
            if not digits or not request.minimum <= len(pin) <= request.maximum:
                raise ReaderError(
                    f"the host asks for {request.minimum} to {request.maximum} digits",
                    "the entry still waits: try again",
                )
        self._end(tuple(pins))

    def cancel(self) -> None:
        """Press the cancel key.

        Raises:
            ReaderError: it is over.
        """
        self._end(PinEnd.CANCELLED)

    def time_out(self) -> None:
        """Let its time be over now.

        Raises:
            ReaderError: it is over.
        """
        self._end(PinEnd.TIMEOUT)

    def _end(self, answer: tuple[str, ...] | PinEnd) -> None:
        if self.is_over:
            raise _is_over()
        self._answer.set_result(answer)


class PinPad:
    """One reader's key pad; where several hosts ask, the first is answered first."""

    def __init__(self, default_timeout: float = DEFAULT_TIMEOUT) -> None:
        self._default_timeout = default_timeout
        self._entries: list[Entry] = []
        self._asked = asyncio.Event()

    @property
    def entry(self) -> Entry | None:
        """The one that is first, or None."""
        return next((entry for entry in self._entries if not entry.is_over), None)

    async def ask(self, host: str, request: PinRequest) -> tuple[str, ...] | PinEnd:
        """Wait until a person has typed, given up, or done nothing for too long."""
        answer: asyncio.Future[tuple[str, ...] | PinEnd]
        answer = asyncio.get_running_loop().create_future()
        entry = Entry(host, request, answer)
        self._entries.append(entry)
        asked, self._asked = self._asked, asyncio.Event()
        asked.set()
        try:
            async with asyncio.timeout(request.timeout or self._default_timeout):
                return await answer
        except TimeoutError:
            # It may have been answered in the very turn of the loop its time ran out in.
            return PinEnd.TIMEOUT if answer.cancelled() else answer.result()
        finally:
            self._entries.remove(entry)

    async def wait_asked(self, timeout: float | None) -> Entry:
        """The entry a host waits for, now or within `timeout` seconds.

        Raises:
            ReaderError: nobody asked.
        """
        try:
            async with asyncio.timeout(timeout):
                while (entry := self.entry) is None:
                    await self._asked.wait()
        except TimeoutError:
            raise _nobody_asks() from None
        return entry

    def first(self) -> Entry:
        """`entry`, where there is one.

        Raises:
            ReaderError: no host asks.
        """
        entry = self.entry
        if entry is None:
            raise _nobody_asks()
        return entry

    def find(self, id: str) -> Entry:
        """The entry of this id, for as long as its host waits.

        Raises:
            ReaderError: it is over, or at another pad.
        """
        for entry in self._entries:
            if entry.id == id and not entry.is_over:
                return entry
        raise _is_over()


def _nobody_asks() -> ReaderError:
    return ReaderError(
        "no host asks for a PIN at this reader", "start the program that needs the PIN first"
    )


def _is_over() -> ReaderError:
    return ReaderError(
        "the host that asked for this PIN does not wait for it any more; nothing was typed",
        "it gave up, its time ran out, or another has answered it",
    )
