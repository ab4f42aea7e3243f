# SPDX-License-Identifier: LGPL-2.1-or-later
"""The CCID interface: its pipes and control requests over 1 to n slots (CCID rev 1.1, 5.2, 5.3).

Bulk-OUT bytes, control requests and the owner's results go in; responses, notifications and
the owner's actions come out. No I/O and no clock.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Final

from vccid.ccid.actions import Action
from vccid.ccid.class_descriptor import LONGEST_MESSAGE, ClassDescriptor
from vccid.ccid.codes import CommandStatus, Error, IccStatus
from vccid.ccid.commands import Escapes
from vccid.ccid.messages import COMMANDS, HEADER_SIZE, Header, answer_type
from vccid.ccid.outbox import Outbox
from vccid.ccid.responses import NotifySlotChange
from vccid.ccid.slot import Slot
from vccid.ccid.states import BUSY

#: Responses that may wait for the host before the reader takes no more commands (5.2).
_WAITING: Final = 32
#: bSlot's offset in every message (6.1, 6.2).
SLOT_AT: Final = 5


class Interface:
    """One CCID function with as many slots as its class descriptor says.

    Attributes:
        slots: by bSlot; the owner tells each what comes of its actions.
        outbox: what waits to leave it, for those who look before they ask.
    """

    def __init__(
        self,
        descriptor: ClassDescriptor,
        escape: Escapes | None = None,
        without_pin_pad: Collection[int] = (),
    ) -> None:
        """
        Args:
            escape: the vendor's own commands; without it there are none.
            without_pin_pad: slots that have none, where the descriptor tells of one:
                bPINSupport is of the reader as a whole.
        """
        self.descriptor = descriptor
        self.outbox = Outbox()
        self.slots = tuple(
            Slot(number, descriptor, self.outbox, escape, number not in without_pin_pad)
            for number in range(descriptor.max_slot_index + 1)
        )
        self._partial = bytearray()
        self._skip = 0

    # --- command pipe --------------------------------------------------------------------

    @property
    def accepts(self) -> bool:
        """False while so many responses wait that the command pipe has to (NAK)."""
        return len(self.outbox.responses) < _WAITING

    def begins_for(self, data: bytes) -> int | None:
        """bSlot of the command a transfer begins; None where it goes on with one, or is empty."""
        goes_on = self._partial or self._skip or len(data) < HEADER_SIZE
        return None if goes_on else data[SLOT_AT]

    def bulk_out(self, data: bytes, ends: bool) -> bool:
        """Take one transfer of the command pipe.

        Args:
            ends: its last packet was shorter than wMaxPacketSize, so the message ends here.

        Returns:
            False where there was not even a header: nobody can be answered, the pipe halts.
        """
        if self._skip and self._is_rest(data, ends):
            return True
        if self._partial:
            self._partial += data
            data = bytes(self._partial)
        if len(data) < HEADER_SIZE:
            # A zero-length packet before a message only closes the one before it.
            self._partial = bytearray(b"" if ends else data)
            return not (data and ends)
        header = Header.parse(data)
        whole = HEADER_SIZE + header.length
        if whole > self.descriptor.max_message:
            self._skip = 0 if ends else max(0, whole - len(data))
        elif len(data) < whole and not ends:
            if not self._partial:
                self._partial += data
            return True
        self._partial.clear()
        fits = len(data) == whole <= self.descriptor.max_message
        self._command(header, data[HEADER_SIZE:] if fits else None)
        return True

    def _is_rest(self, data: bytes, ends: bool) -> bool:
        """Whether a transfer goes on with a message that is too long.

        Its dwLength is believed where no more is left than hosts send. Where more is, or the
        transfer does not fit what is left, one that looks like a command is one.
        """
        left, size = self._skip, len(data)
        is_next = left <= LONGEST_MESSAGE and (size == left or (size < left and not ends))
        if not is_next and self._begins_message(data, ends):
            self._skip = 0
            return False
        self._skip = 0 if ends else max(0, left - size)
        return True

    def _begins_message(self, data: bytes, ends: bool) -> bool:
        """Whether these are a message to one of the slots, or the first part of one."""
        if len(data) < HEADER_SIZE:
            return False
        header = Header.parse(data)
        whole = HEADER_SIZE + header.length
        fits = len(data) == whole if ends else len(data) <= whole <= self.descriptor.max_message
        return fits and header.type in COMMANDS and header.slot < len(self.slots)

    def _command(self, header: Header, data: bytes | None) -> None:
        if header.slot >= len(self.slots):
            answer = answer_type(header.type)(
                header.slot, header.seq, IccStatus.ABSENT, CommandStatus.FAILED, Error.BAD_SLOT
            )
            self.outbox.responses.append((answer, 0))
            return
        slot = self.slots[header.slot]
        limit = self.descriptor.max_busy_slots
        others_busy = (
            limit < len(self.slots)
            and sum(other.work.state in BUSY for other in self.slots if other is not slot) >= limit
        )
        slot.receive(header, data, others_busy)

    # --- response and interrupt pipe -----------------------------------------------------

    def next_response(self) -> bytes | None:
        """The next message for the response pipe; the host is taken to have it now."""
        if not self.outbox.responses:
            return None
        response, stamp = self.outbox.responses.popleft()
        if response.slot < len(self.slots):
            self.slots[response.slot].fetched(response.icc, stamp)
        return response.serialize()

    def lose_longer(self, room: int) -> bool:
        """Drop the next response where it is longer than that: the host does not have it."""
        responses = self.outbox.responses
        if not responses or HEADER_SIZE + len(responses[0][0].data) <= room:
            return False
        responses.popleft()
        return True

    @property
    def notification_size(self) -> int:
        """Bytes of a NotifySlotChange: its type, and two bits a slot (6.3.1)."""
        return 1 + (len(self.slots) + 3) // 4

    def next_notification(self) -> bytes:
        """The state of every slot, for the interrupt pipe; it counts as fetched."""
        message = NotifySlotChange(
            tuple(
                (slot.presence.is_shown, number in self.outbox.changed)
                for number, slot in enumerate(self.slots)
            )
        )
        self.outbox.changed.clear()
        for slot, (present, _) in zip(self.slots, message.slots, strict=True):
            slot.notified(present)
        return message.serialize()

    # --- control pipe (5.3) --------------------------------------------------------------

    def abort(self, slot: int, seq: int) -> bool:
        """ABORT: bSlot and bSeq are wValue's bytes; False where there is no such slot."""
        if slot >= len(self.slots):
            return False
        self.slots[slot].abort(seq)
        return True

    def clock_frequencies(self) -> bytes:
        """GET_CLOCK_FREQUENCIES: bNumClockSupported dwords, kHz."""
        return struct.pack("<I", self.descriptor.clock)

    def data_rates(self) -> bytes:
        """GET_DATA_RATES: bNumDataRatesSupported dwords, bit/s."""
        rates = self.descriptor.data_rates
        return struct.pack(f"<{len(rates)}I", *rates)

    def reset(self) -> None:
        """USB reset, SET_CONFIGURATION or SET_INTERFACE."""
        self._partial.clear()
        self._skip = 0
        for slot in self.slots:
            slot.reset()
        self.outbox.responses.clear()

    # --- the owner -----------------------------------------------------------------------

    def take_actions(self) -> list[Action]:
        """What there is to do; each is given once, in order."""
        actions, self.outbox.actions = self.outbox.actions, []
        return actions

    @property
    def last_seqs(self) -> tuple[int, ...]:
        """bSeq of the last command that each slot took: another one, and the host is at work."""
        return tuple(slot.work.seq for slot in self.slots)
