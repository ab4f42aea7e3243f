# SPDX-License-Identifier: LGPL-2.1-or-later
"""What waits to leave the reader: responses and news for the host, actions for the owner."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from vccid.ccid.actions import Action
from vccid.ccid.codes import CommandStatus
from vccid.ccid.responses import Response


@dataclass(slots=True)
class Outbox:
    """Shared by the slots of one interface.

    Attributes:
        responses: in the order they were given, each with the stamp its slot had then.
        actions: likewise; the owner empties it.
        changed: numbers of the slots whose presence changed since the last NotifySlotChange
            (6.3.1).
    """

    responses: deque[tuple[Response, int]] = field(default_factory=deque)
    actions: list[Action] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)

    def discard(self, slot: int, seq: int) -> None:
        """An aborted command's response is not sent (5.3.1)."""
        kept = [
            (response, stamp)
            for response, stamp in self.responses
            if response.slot != slot or response.seq != seq
        ]
        self.responses.clear()
        self.responses.extend(kept)

    def has_extension(self, slot: int) -> bool:
        """Whether a time extension of this slot was not fetched yet."""
        return any(
            response.slot == slot and response.command is CommandStatus.TIME_EXTENSION
            for response, _ in self.responses
        )
