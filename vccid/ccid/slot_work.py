# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one slot is at: its state, the piece of work that runs, and how it answers."""

from __future__ import annotations

from typing import Final

from vccid.ccid.actions import Action, AskPin, Cancel, PowerOff, PowerOn, Transmit
from vccid.ccid.chaining import Chaining
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import ClockStatus, CommandStatus, IccStatus
from vccid.ccid.line import Line
from vccid.ccid.outbox import Outbox
from vccid.ccid.pin_entry import PinRequest
from vccid.ccid.presence import Presence
from vccid.ccid.responses import DataBlock, Response, SlotStatus
from vccid.ccid.states import BUSY, ICC_STATUS, SLOT, Event, State
from vccid.errors import LocalProtocolError

#: Multiplier of the waiting time that a time extension asks for.
_EXTENSION: Final = 1
#: An enum's member is found slowly, and these with every command.
_DONE: Final = CommandStatus.DONE
_RUNNING: Final = ClockStatus.RUNNING
_TRANSITIONS: Final = SLOT.transitions


class SlotWork:
    """The state of one slot and the work it gave its owner.

    Attributes:
        state: as the table in vccid.ccid.states has it.
        seq: bSeq of the last command it took.
        line: what the reader uses towards the card.
        chaining: commands and answers that come in parts.
        presence: the card's, as the host was shown it.
        outbox: what waits to leave the reader.
    """

    def __init__(self, number: int, descriptor: ClassDescriptor, outbox: Outbox) -> None:
        self.state = State.ABSENT
        self.seq = 0
        self.line = Line(descriptor)
        self.chaining = Chaining(descriptor)
        self.presence = Presence()
        self.outbox = outbox
        self._number = number
        self._work = 0

    # --- the state -------------------------------------------------------------------------

    def move(self, event: Event) -> None:
        """Go where the table says.

        Raises:
            LocalProtocolError: it has no such event in this state.
        """
        try:
            self.state = _TRANSITIONS[self.state][event]
        except KeyError:
            raise LocalProtocolError(f"{event.name} in state {self.state.name}") from None

    def drop(self, event: Event) -> None:
        """Leave whatever runs; only a card that still executes is waited for."""
        if self.state in (State.POWERING, State.TYPING) and event is not Event.FAILED:
            self._act(Cancel(self._number, self._work))
        if self.state is State.POWERING and event is Event.ABORT:
            # The card may be powered by now, and the result on its way.
            self.power_off()
        self.move(event)
        self.chaining.forget()
        if self.state is not State.DRAINING:
            self._work += 1
        if ICC_STATUS[self.state] is not IccStatus.ACTIVE:
            self.line.off()

    def is_current(self, work: int) -> bool:
        """Whether a result is of the work that runs; any other was given up meanwhile."""
        return work == self._work and (self.state in BUSY or self.state is State.DRAINING)

    def changed(self) -> None:
        """The next NotifySlotChange tells of this slot (6.3.1)."""
        self.outbox.changed.add(self._number)

    # --- what the owner is to do -----------------------------------------------------------

    def power_on(self) -> None:
        """Begin a session with the card."""
        self._work += 1
        self._act(PowerOn(self._number, self._work))

    def power_off(self) -> None:
        """End it."""
        self._act(PowerOff(self._number))

    def transmit(self, apdu: bytes) -> None:
        """Let the card execute a command."""
        self._work += 1
        self.line.clock = _RUNNING
        self._act(Transmit(self._number, self._work, apdu))

    def ask_pin(self, request: PinRequest) -> None:
        """Let a person type."""
        self._work += 1
        self._act(AskPin(self._number, self._work, request))

    def _act(self, action: Action) -> None:
        self.outbox.actions.append(action)

    # --- what the host is answered ---------------------------------------------------------

    def reply(self, kind: type[Response], *, specific: int = 0, data: bytes = b"") -> None:
        """Answer the command that is under way.

        Args:
            specific: byte 9, as the type has it (6.2).
        """
        self._respond(
            kind(
                self._number, self.seq, ICC_STATUS[self.state], _DONE, 0, specific, data,
            )
        )  # fmt: skip

    def reply_status(self) -> None:
        """Answer it with the slot's status."""
        self.reply(SlotStatus, specific=self.line.clock)

    def refuse(self, kind: type[Response], seq: int, error: int) -> None:
        """Fail a command: no data, and byte 9 as the type has it (6.2)."""
        specific = self.line.clock if kind is SlotStatus else 0
        self._respond(
            kind(
                self._number, seq, ICC_STATUS[self.state], CommandStatus.FAILED, error, specific
            )
        )  # fmt: skip

    def discard(self) -> None:
        """An aborted command's response is not sent (5.3.1)."""
        self.outbox.discard(self._number, self.seq)

    def extend(self) -> None:
        """Ask the host for more time (6.2.6), where it still waits and was not asked before.

        Only where hosts understand it: XfrBlock and Secure.
        """
        waits = self.state in (State.WORKING, State.TYPING)
        if waits and not self.outbox.has_extension(self._number):
            self._respond(
                DataBlock(
                    self._number, self.seq, ICC_STATUS[self.state], CommandStatus.TIME_EXTENSION,
                    _EXTENSION,
                )
            )  # fmt: skip

    def _respond(self, response: Response) -> None:
        self.outbox.responses.append((response, self.presence.stamp))
