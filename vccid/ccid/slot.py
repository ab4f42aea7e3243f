# SPDX-License-Identifier: LGPL-2.1-or-later
"""One slot of the reader: commands in, responses and actions out (CCID rev 1.1, 6).

No I/O and no clock: the owner does the card's work and says when time has passed. Three machines
meet here, each with a table of its own: what the slot is at (`states`), the abort handshake
(`abort`), and the card's presence as the host was shown it (`presence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vccid.ccid.abort import AbortHandshake
from vccid.ccid.actions import Noticed
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import Error, IccStatus
from vccid.ccid.commands import Commands, Escapes
from vccid.ccid.messages import Abort, Header, Refused, answer_type, parse_command
from vccid.ccid.outbox import Outbox
from vccid.ccid.pin_entry import CONFIRMATION_FAILED, PinEnd
from vccid.ccid.presence import Presence
from vccid.ccid.responses import DataBlock, SlotStatus
from vccid.ccid.slot_work import SlotWork
from vccid.ccid.states import BUSY, ICC_STATUS, NEEDS, Event, State

#: An enum's member is found slowly, and these with every command.
_ABORT: Final = Abort.TYPE.value
_ABSENT: Final = IccStatus.ABSENT


class Slot:
    """One slot; its owner asks it to `work.extend()` for each second a result is awaited.

    Attributes:
        work: what it is at.
        presence: the card's, as the host was shown it.
    """

    def __init__(
        self,
        number: int,
        descriptor: ClassDescriptor,
        outbox: Outbox,
        escape: Escapes | None = None,
        has_pin_pad: bool = True,
    ) -> None:
        """`escape`, `has_pin_pad`: as in vccid.ccid.interface."""
        self._number = number
        self.work = SlotWork(number, descriptor, outbox)
        self._commands = Commands(descriptor, self.work, escape, has_pin_pad)
        self._abort = AbortHandshake()
        self._outbox = outbox
        self.presence: Presence = self.work.presence

    # --- what the host sends -------------------------------------------------------------

    def receive(self, header: Header, data: bytes | None, others_busy: bool = False) -> None:
        """Take one command.

        Args:
            data: what came behind the header, None where that was not dwLength bytes.
            others_busy: as many other slots work as bMaxCCIDBusySlots allows.
        """
        work = self.work
        try:
            if header.type == _ABORT:
                self._abort_bulk_half(parse_command(header, data).seq)
                return
            if work.state in BUSY or others_busy:
                raise Refused(Error.CMD_SLOT_BUSY)
            if self._abort.under_way:
                raise Refused(Error.CMD_ABORTED)
            command = parse_command(header, data)
            self._commands.check_offered(command)
            if ICC_STATUS[work.state] > NEEDS.get(type(command), _ABSENT):
                raise Refused(Error.ICC_MUTE)
            work.seq = header.seq
            self._commands.execute(command)
        except Refused as refused:
            work.refuse(answer_type(header.type), header.seq, refused.error)

    def abort(self, seq: int) -> None:
        """The control request ABORT (5.3.1): the other half of PC_to_RDR_Abort."""
        self._give_up()
        other = self._abort.seq
        if not self._abort.control(seq):
            self.work.refuse(SlotStatus, other, Error.CMD_ABORTED)
        self._finish_abort()

    def _abort_bulk_half(self, seq: int) -> None:
        self._give_up()
        before, unanswered = self._abort.seq, self._abort.waiting_bulk
        if not self._abort.bulk(seq):
            raise Refused(Error.CMD_ABORTED)
        if unanswered:
            self.work.refuse(SlotStatus, before, Error.CMD_ABORTED)
        self._finish_abort()

    def _give_up(self) -> None:
        """Stop what runs; a card's own work cannot be stopped, but nobody gets its result."""
        if not self._abort.under_way:
            self.work.discard()
        self.work.drop(Event.ABORT)

    def _finish_abort(self) -> None:
        if self._abort.complete and self.work.state is not State.DRAINING:
            self.work.seq = self._abort.seq
            self._abort.answered()
            self.work.reply_status()

    def reset(self) -> None:
        """USB reset, SET_CONFIGURATION or SET_INTERFACE: as if just plugged in."""
        work = self.work
        work.drop(Event.RESET)
        self._abort.reset()
        self._outbox.changed.discard(self._number)
        if work.state is not State.ABSENT:
            work.power_off()
            work.changed()
        if self.presence.reset():
            self._show_card()

    # --- what the owner tells ------------------------------------------------------------

    @property
    def host_sees_card(self) -> bool:
        """Whether the last response the host has had says that a card is in."""
        return self.presence.told is not _ABSENT

    def insert(self, stamp: int) -> None:
        """A card came in; one that the host must not see yet is held back until `settle`.

        `stamp` grows with every change and returns in Noticed.
        """
        if self.presence.inserted(stamp):
            self._show_card()

    def _show_card(self) -> None:
        self.work.move(Event.INSERTED)
        self.work.changed()

    def remove(self, stamp: int) -> None:
        """The card left; a command it worked on fails."""
        if not self.presence.removed(stamp):
            return
        work = self.work
        seq, fails = work.seq, work.state in BUSY
        work.drop(Event.REMOVED)
        if fails:
            work.refuse(DataBlock, seq, Error.ICC_MUTE)
        work.changed()
        self._finish_abort()

    def settle(self) -> None:
        """Half a second has passed since `remove`: hosts have seen the empty slot or never will.

        So the card that came, or will come, is shown.
        """
        if self.presence.settled():
            self._show_card()

    def fetched(self, icc: IccStatus, stamp: int) -> None:
        """The host fetched a response of this slot's."""
        self.presence.told = icc
        self._seen(icc is not _ABSENT, stamp, noticed=True)

    def notified(self, present: bool) -> None:
        """The host fetched a notification.

        A host that has only been notified of a card still asks for it, so that does not count
        as noticed; of a removal the notification is all that some hosts want to know.
        """
        self._seen(present, self.presence.stamp, noticed=not present)

    def _seen(self, present: bool, stamp: int, *, noticed: bool) -> None:
        presence = self.presence
        if not presence.tells_now(present, stamp):
            return
        if noticed and presence.first_noticed():
            self._outbox.actions.append(Noticed(self._number, stamp))
        if presence.seen():
            self._show_card()

    # --- the owner's results -------------------------------------------------------------

    def powered(self, work: int, atr: bytes) -> None:
        """The card of PowerOn answered to reset."""
        if not self.work.is_current(work):
            return
        try:
            self.work.line.powered(atr)
        except Refused as refused:
            self.work.power_off()
            self.failed(work, refused.error)
            return
        self.work.move(Event.POWERED)
        self.work.reply(DataBlock, data=atr)

    def answered(self, work: int, answer: bytes) -> None:
        """The card answered to Transmit."""
        slot = self.work
        if not slot.is_current(work):
            return
        is_wanted = slot.state is State.WORKING
        slot.move(Event.ANSWERED)
        if not is_wanted:
            self._finish_abort()
            return
        try:
            chain, data = slot.chaining.answer(answer)
        except Refused as refused:
            slot.refuse(DataBlock, slot.seq, refused.error)
        else:
            slot.reply(DataBlock, specific=chain, data=data)

    def typed(self, work: int, pins: Sequence[str]) -> None:
        """A person typed: one PIN for each prompt of AskPin."""
        slot, request = self.work, self._commands.pin
        if not slot.is_current(work) or slot.state is not State.TYPING or request is None:
            return
        command = request.complete(pins)
        if command is None:
            slot.move(Event.NOT_TYPED)
            slot.reply(DataBlock, data=CONFIRMATION_FAILED)
            return
        slot.move(Event.TYPED)
        slot.transmit(slot.line.as_sent(request.prologue, command))

    def not_typed(self, work: int, end: PinEnd) -> None:
        """The entry was cancelled, or nobody typed in time."""
        if self.work.is_current(work):
            self.work.move(Event.NOT_TYPED)
            self.work.refuse(DataBlock, self.work.seq, end.value)

    def failed(self, work: int, error: int) -> None:
        """PowerOn, Transmit or AskPin came to nothing; the card is without power after it."""
        slot = self.work
        if not slot.is_current(work):
            return
        is_answered = slot.state in BUSY
        if slot.state is not State.POWERING:
            slot.power_off()
        slot.drop(Event.FAILED)
        if is_answered:
            slot.refuse(DataBlock, slot.seq, error)
        self._finish_abort()
