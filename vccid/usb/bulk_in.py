# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages at bulk-IN, in the pieces that a host asks for (USB 2.0, 5.8.3; CCID rev 1.1, 6.2)."""

from __future__ import annotations

from typing import Final

from vccid.ccid.interface import SLOT_AT, Interface
from vccid.usb.bulk_in_states import BULK_IN_MESSAGE, Event, State
from vccid.usb.transfers import Status

#: Looked up once, not for every transfer.
_UNCLOSED: Final = State.UNCLOSED
_WHOLE: Final = State.WHOLE


class BulkInPipe:
    """The message that a host is being given, and what it has had of it.

    Attributes:
        state: of that message.
    """

    def __init__(self, function: Interface, packet: int) -> None:
        """`packet`: bytes of a full one."""
        self.state = BULK_IN_MESSAGE.initial
        self._function = function
        self._packet = packet
        self._longest = function.descriptor.max_message
        self._message = b""  # what the host has not had of it
        self._slot = 0  # of the message

    def command(self, data: bytes) -> None:
        """A transfer comes to the command pipe.

        Whoever sends a slot's next command has all he wanted of its last response.
        """
        if self.state is _UNCLOSED and self._function.begins_for(data) == self._slot:
            self._move(Event.NEXT_COMMAND)

    def piece(self, room: int) -> tuple[Status, bytes] | None:
        """What a transfer of this length gets; None while there is nothing."""
        if self.state is _UNCLOSED:
            self._move(Event.EMPTY_PACKET)
            return Status.DONE, b""
        if room < self._longest and room % self._packet and self._babbles(room):
            self._message = b""
            self._move(Event.OVERFLOW)
            return Status.OVERFLOW, b""
        if not self._message:
            message = self._function.next_response()
            if message is None:
                return None
            self._message = message
            self._slot = message[SLOT_AT]
        piece, self._message = self._message[:room], self._message[room:]
        if self._message:
            self._move(Event.PIECE)
        elif len(piece) == room and not room % self._packet:
            self._move(Event.LAST_PIECE_FULL)
        elif self.state is not _WHOLE:  # nearly every message is, at once
            self._move(Event.LAST_PIECE)
        return Status.DONE, piece

    def forget(self) -> None:
        """SET_CONFIGURATION or SET_INTERFACE: what is left of a message goes nowhere."""
        self._message = b""
        self._move(Event.RESET)

    def _babbles(self, room: int) -> bool:
        """Whether a packet does not fit: what is left of its message is then of no use."""
        return room < len(self._message) if self._message else self._function.lose_longer(room)

    def _move(self, event: Event) -> None:
        self.state = BULK_IN_MESSAGE.after(self.state, event)
