# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program's one wait for a change, and what it hears of that."""

from __future__ import annotations

from collections.abc import Callable

from vccid.frontends.pcsc.machines import SAYS, WAITS, Say, Wait, WaitEvent
from vccid.frontends.pcsc.registry import Registry
from vccid.wire.pcsclite import Rv, serialize_signal


class ProgramWaiter:
    """One program, as one that may wait."""

    def __init__(self, registry: Registry, send: Callable[[bytes], None]) -> None:
        self._registry = registry
        self._send = send
        self._wait = WAITS.initial

    def step(self, event: WaitEvent) -> None:
        """Move the wait, and tell the program what it has to hear."""
        say = SAYS.get((self._wait, event))
        self._enter(WAITS.after(self._wait, event))
        if say is not None:
            rv = Rv.E_CANCELLED if say is Say.CANCELLED else Rv.SUCCESS
            self._send(serialize_signal(self._registry.events, rv))

    def end(self) -> None:
        """Its context is over, and nobody is there to hear of it."""
        self._enter(WAITS.initial)

    def _enter(self, wait: Wait) -> None:
        self._wait = wait
        if wait is Wait.IDLE:
            self._registry.waiting.discard(self)
        else:
            self._registry.waiting.add(self)
