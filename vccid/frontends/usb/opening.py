# SPDX-License-Identifier: LGPL-2.1-or-later
"""Notices that a host's driver gave a reader up while it opened it.

libccid (1.5.2 to 1.8.2) asks a new reader for its slot's status, and has 100 ms for the answer,
twice. If both come too late, because the machine has much else to do just then, it takes the reader
for a broken one, and pcscd does not try again before it is plugged in anew. What is seen of it
here: the host asks for nothing but the status, and then does nothing at all, while a driver that
has opened a reader powers the card or waits for news of the slots.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from vccid.ccid.messages import GetSlotStatus
from vccid.frontends.usb.opening_states import OPENING, Event, State
from vccid.usb.descriptors import BULK_OUT, INTERRUPT_IN

#: Seconds in which a driver that goes on has done something, however busy the machine.
_SILENCE: Final = 5.0
#: How often in a row a reader is plugged in again, and the seconds after which it is another row.
_MOST_TRIES: Final = 3
_NEW_ROW: Final = 60.0
_INTERRUPT: Final = INTERRUPT_IN & 0x0F
_STATUS: Final = bytes((GetSlotStatus.TYPE,))
#: Looked up once, not for every transfer.
_OPENED: Final = State.OPENED

log = logging.getLogger(__name__)


class OpeningWatch:
    """Watches what one host begins, from one silence to the next."""

    def __init__(self, given_up: Callable[[], None]) -> None:
        self._given_up = given_up
        self._state = OPENING.initial
        self._timer: asyncio.TimerHandle | None = None

    def began(self, endpoint: int, data: bytes) -> None:
        """The host begins a transfer; `data` is an OUT transfer's."""
        self.close()
        if self._state is _OPENED:
            return  # as nearly always
        if endpoint == BULK_OUT and data:
            self._move(Event.STATUS if data.startswith(_STATUS) else Event.OTHER_COMMAND)
        elif endpoint == _INTERRUPT:
            self._move(Event.LISTENS)

    def idle(self) -> None:
        """Nothing is under way."""
        self.close()
        self._timer = asyncio.get_running_loop().call_later(_SILENCE, self._silent)

    def close(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _silent(self) -> None:
        given_up = self._state is State.ASKED
        self._move(Event.SILENCE)
        if given_up:
            self._given_up()

    def _move(self, event: Event) -> None:
        self._state = OPENING.after(self._state, event)


class Tries:
    """Bounds how often a reader is plugged in again: some host's driver may never open it."""

    def __init__(self, reader: str) -> None:
        """`reader` is its name."""
        self._where = {"reader": reader}
        self._times: list[float] = []

    def take(self) -> bool:
        """Whether it may be plugged in once more; logs what is done."""
        now = asyncio.get_running_loop().time()
        if self._times and now - self._times[-1] > _NEW_ROW:
            self._times.clear()
        if len(self._times) == _MOST_TRIES:
            log.warning("the host's driver has given the reader up again", extra=self._where)
            return False
        self._times.append(now)
        log.warning("the host's driver gave the reader up: plugging it in again", extra=self._where)
        return True
