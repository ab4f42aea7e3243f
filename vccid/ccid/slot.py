# SPDX-License-Identifier: LGPL-2.1-or-later
"""One slot of the reader: commands in, responses and actions out (CCID rev 1.1, 6).

No I/O and no clock: the owner does the card's work and says when time has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from vccid.ccid.actions import AskPin, Cancel, Noticed, PowerOff, PowerOn, Transmit
from vccid.ccid.chaining import Chaining
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import (
    Chain,
    ClockStatus,
    CommandStatus,
    Error,
    Feature,
    IccStatus,
    PinSupport,
)
from vccid.ccid.line import Line
from vccid.ccid.messages import (
    T0APDU,
    Abort,
    Command,
    Escape,
    GetParameters,
    GetSlotStatus,
    Header,
    IccClock,
    IccPowerOff,
    IccPowerOn,
    Mechanical,
    Refused,
    ResetParameters,
    Secure,
    SetDataRateAndClockFrequency,
    SetParameters,
    XfrBlock,
    answer_type,
    parse_command,
)
from vccid.ccid.outbox import Outbox
from vccid.ccid.pin_entry import CONFIRMATION_FAILED, PinEnd, PinOperation, PinRequest
from vccid.ccid.responses import (
    DataBlock,
    DataRateAndClockFrequency,
    EscapeAnswer,
    ParametersAnswer,
    Response,
    SlotStatus,
)
from vccid.ccid.states import BUSY, ICC_STATUS, NEEDS, TRANSITIONS, Event, State
from vccid.errors import LocalProtocolError

#: What Escape commands are answered with; None where there is no such command.
Escapes = Callable[[bytes], bytes | None]

#: Multiplier of the waiting time that a time extension asks for.
_EXTENSION: Final = 1
#: An enum's member is found slowly, and these with every command.
_ABORT: Final = Abort.TYPE.value
_ABSENT: Final = IccStatus.ABSENT
_DONE: Final = CommandStatus.DONE
_RUNNING: Final = ClockStatus.RUNNING


def _not_offered(
    descriptor: ClassDescriptor, has_escapes: bool, has_pin_pad: bool
) -> frozenset[type[Command]]:
    """The commands a slot of a reader with this descriptor has not."""
    kinds: set[type[Command]] = {Mechanical}  # dwMechanical is 0
    if not has_escapes:
        kinds.add(Escape)
    if Feature.CLOCK_STOP not in descriptor.features:
        kinds.add(IccClock)
    if not descriptor.features & (Feature.SHORT_APDU | Feature.EXTENDED_APDU):
        kinds.add(T0APDU)
    if not descriptor.pin_support or not has_pin_pad:
        kinds.add(Secure)
    return frozenset(kinds)


class Slot:
    """The state machine of one slot.

    Attributes:
        state: as the table in vccid.ccid.states has it.
        stamp: the owner's mark of the last change of presence.
        seq: bSeq of the last command it took.
        told_of_card: the last response the host has had says that a card is in.
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
        self.state = State.ABSENT
        self.stamp = 0
        self.told_of_card = False
        self._number = number
        self._descriptor = descriptor
        self._outbox = outbox
        self._escape = escape
        self._not_offered = _not_offered(descriptor, escape is not None, has_pin_pad)
        self._chaining = Chaining(descriptor)
        self._line = Line(descriptor)
        self.seq = 0
        self._work = 0
        self._pin: PinRequest | None = None
        self._abort_control: int | None = None
        self._abort_bulk: int | None = None
        self._shown: bool | None = None
        self._noticed = 0
        self._withheld: int | None = None

    # --- what the host sends -------------------------------------------------------------

    def receive(self, header: Header, data: bytes | None, others_busy: bool = False) -> None:
        """Take one command.

        Args:
            data: what came behind the header, None where that was not dwLength bytes.
            others_busy: as many other slots work as bMaxCCIDBusySlots allows.
        """
        try:
            if header.type == _ABORT:
                self._abort_bulk_half(parse_command(header, data).seq)
                return
            if self.state in BUSY or others_busy:
                raise Refused(Error.CMD_SLOT_BUSY)
            if self._abort_control is not None or self._abort_bulk is not None:
                raise Refused(Error.CMD_ABORTED)
            command = parse_command(header, data)
            if type(command) in self._not_offered:
                self._refuse_not_offered(command)
            if ICC_STATUS[self.state] > NEEDS.get(type(command), _ABSENT):
                raise Refused(Error.ICC_MUTE)
            self.seq = header.seq
            self._execute(command)
        except Refused as refused:
            self._refuse(answer_type(header.type), header.seq, refused.error)

    def abort(self, seq: int) -> None:
        """The control request ABORT (5.3.1): the other half of PC_to_RDR_Abort."""
        self._give_up()
        self._abort_control = seq
        if self._abort_bulk is not None and self._abort_bulk != seq:
            self._refuse(SlotStatus, self._abort_bulk, Error.CMD_ABORTED)
            self._abort_bulk = None
        self._finish_abort()

    def reset(self) -> None:
        """USB reset, SET_CONFIGURATION or SET_INTERFACE: as if just plugged in."""
        self._drop_work(Event.RESET)
        if self.state is not State.ABSENT:
            self._outbox.actions.append(PowerOff(self._number))
        self._abort_control = self._abort_bulk = None
        self._shown = None
        self._outbox.changed.discard(self._number)
        if self.state is not State.ABSENT:
            self._outbox.changed.add(self._number)
        self.settle()

    # --- what the owner tells ------------------------------------------------------------

    def insert(self, stamp: int) -> None:
        """A card came in.

        6.3.1: a host that was shown the card before must be shown the empty slot first, else
        it takes this card for that one. `settle` ends the waiting.
        """
        if self.state is State.ABSENT and self._shown:
            self._withheld = stamp
            return
        self._move(Event.INSERTED)
        self._outbox.changed.add(self._number)
        self.stamp = stamp

    def remove(self, stamp: int) -> None:
        """The card left; a command it worked on fails."""
        self.stamp = stamp
        if self._withheld is not None:
            self._withheld = None
            return
        seq = self.seq
        failed = self._running_answer()
        self._drop_work(Event.REMOVED)
        if failed is not None:
            self._refuse(failed, seq, Error.ICC_MUTE)
        self._outbox.changed.add(self._number)
        self._finish_abort()

    def settle(self) -> None:
        """The host had its time to see the empty slot: show the card that came, or will come."""
        if self.state is State.ABSENT:
            self._shown = False
        if self._withheld is not None:
            stamp, self._withheld = self._withheld, None
            self.insert(stamp)

    def shown(self, present: bool, stamp: int, *, by_response: bool) -> None:
        """A message that tells the card's presence was fetched.

        A host that has only been notified of a card still asks for it, so that does not count
        as noticed; of a removal the notification is all that some hosts want to know.
        """
        if by_response:
            self.told_of_card = present
        if stamp != self.stamp or present != (self.state is not State.ABSENT):
            return
        self._shown = present
        if stamp != self._noticed and (by_response or not present):
            self._noticed = stamp
            self._outbox.actions.append(Noticed(self._number, stamp))
        if not present:
            self.settle()

    def powered(self, work: int, atr: bytes) -> None:
        """The card of PowerOn answered to reset."""
        if not self._is_current(work):
            return
        try:
            self._line.powered(atr)
        except Refused as refused:
            self._outbox.actions.append(PowerOff(self._number))
            self.failed(work, refused.error)
            return
        self._move(Event.POWERED)
        self._reply(DataBlock, data=atr)

    def answered(self, work: int, answer: bytes) -> None:
        """The card answered to Transmit."""
        if not self._is_current(work):
            return
        wanted = self.state is State.WORKING
        self._move(Event.ANSWERED)
        if not wanted:
            self._finish_abort()
            return
        try:
            chain, data = self._chaining.answer(answer)
        except Refused as refused:
            self._refuse(DataBlock, self.seq, refused.error)
        else:
            self._reply(DataBlock, specific=chain, data=data)

    def typed(self, work: int, pins: Sequence[str]) -> None:
        """A person typed: one PIN for each prompt of AskPin."""
        if not self._is_current(work) or self._pin is None:
            return
        request, self._pin = self._pin, None
        command = request.complete(pins)
        if command is None:
            self._move(Event.NOT_TYPED)
            self._reply(DataBlock, data=CONFIRMATION_FAILED)
            return
        self._move(Event.TYPED)
        self._transmit(self._line.as_sent(request.prologue, command))

    def not_typed(self, work: int, end: PinEnd) -> None:
        """The entry was cancelled, or nobody typed in time."""
        if self._is_current(work):
            self._pin = None
            self._move(Event.NOT_TYPED)
            self._refuse(DataBlock, self.seq, end.value)

    def failed(self, work: int, error: int) -> None:
        """PowerOn, Transmit or AskPin came to nothing; the card is without power after it."""
        if not self._is_current(work):
            return
        answer = self._running_answer()
        if self.state is not State.POWERING:
            self._outbox.actions.append(PowerOff(self._number))
        self._drop_work(Event.FAILED)
        if answer is not None:
            self._refuse(answer, self.seq, error)
        self._finish_abort()

    def extend(self) -> None:
        """An answer is still awaited: ask the host for more time (6.2.6).

        Only where hosts understand it: XfrBlock and Secure; one at a time.
        """
        waits = self.state in (State.WORKING, State.TYPING)
        if waits and not self._outbox.has_extension(self._number):
            self._respond(
                DataBlock(
                    self._number, self.seq, ICC_STATUS[self.state], CommandStatus.TIME_EXTENSION,
                    _EXTENSION,
                )
            )  # fmt: skip

    # --- commands ------------------------------------------------------------------------

    @staticmethod
    def _refuse_not_offered(command: Command) -> NoReturn:
        """What the class descriptor does not announce is CMD_NOT_SUPPORTED."""
        if isinstance(command, Mechanical) and not 1 <= command.function <= 5:
            raise Refused(Error.BAD_FIELD_7)
        raise Refused(Error.CMD_NOT_SUPPORTED)

    def _execute(self, command: Command) -> None:
        match command:
            case XfrBlock():
                self._xfr_block(command)
            case GetSlotStatus():
                self._reply_status()
            case IccPowerOn():
                self._icc_power_on(command)
            case IccPowerOff():
                self._icc_power_off()
            case Secure():
                self._secure(command)
            case GetParameters():
                self._reply_parameters()
            case ResetParameters():
                self._line.reset_parameters()
                self._reply_parameters()
            case SetParameters():
                self._line.set_parameters(command)
                self._reply_parameters()
            case IccClock():
                self._line.set_clock(command)
                self._reply_status()
            case T0APDU():
                self._t0_apdu(command)
            case Escape() if self._escape is not None:
                answer = self._escape(command.data)
                if answer is None:
                    raise Refused(Error.CMD_NOT_SUPPORTED)
                self._reply(EscapeAnswer, data=answer)
            case SetDataRateAndClockFrequency():
                # 6.1.14: "the value really set"; clock and rate are the reader's own affair.
                data = DataRateAndClockFrequency.DATA.pack(
                    self._descriptor.clock, self._descriptor.data_rates[0]
                )
                self._reply(DataRateAndClockFrequency, data=data)
            case _:
                raise LocalProtocolError(f"no slot executes {type(command).__name__}")

    def _icc_power_on(self, command: IccPowerOn) -> None:
        self._line.check_voltage(command)
        self._move(Event.POWER_ON)
        self._chaining.forget()
        self._work += 1
        self._outbox.actions.append(PowerOn(self._number, self._work))

    def _icc_power_off(self) -> None:
        self._move(Event.POWER_OFF)
        self._chaining.forget()
        self._line.off()
        if self.state is not State.ABSENT:
            self._outbox.actions.append(PowerOff(self._number))
        self._reply_status()

    def _xfr_block(self, command: XfrBlock) -> None:
        apdu = self._chaining.command(command.level, command.data)
        if apdu is not None:
            self._move(Event.TRANSMIT)
            self._transmit(apdu)
        elif command.level == Chain.EMPTY:
            chain, data = self._chaining.next_part()
            self._reply(DataBlock, specific=chain, data=data)
        else:
            self._reply(DataBlock, specific=Chain.EMPTY)

    def _secure(self, command: Secure) -> None:
        if command.level != Chain.WHOLE:
            raise Refused(Error.BAD_LEVEL)
        request = PinRequest.parse(command.data, self._line.longest_typed)
        wanted = (
            PinSupport.VERIFY if request.operation is PinOperation.VERIFY else PinSupport.MODIFY
        )
        if wanted not in self._descriptor.pin_support:
            raise Refused(Error.CMD_NOT_SUPPORTED)
        self._chaining.forget()
        self._move(Event.ASK_PIN)
        self._pin = request
        self._work += 1
        self._outbox.actions.append(AskPin(self._number, self._work, request))

    def _reply_parameters(self) -> None:
        parameters = self._line.parameters
        self._reply(ParametersAnswer, specific=parameters.PROTOCOL, data=parameters.serialize())

    def _reply_status(self) -> None:
        self._reply(SlotStatus, specific=self._line.clock)

    def _t0_apdu(self, command: T0APDU) -> None:
        """6.1.10. The classes change nothing: the card never asks for GET RESPONSE or ENVELOPE."""
        if command.changes > 3:
            raise Refused(Error.BAD_FIELD_7)
        self._reply_status()

    # --- abort (5.3.1, 6.1.13) -----------------------------------------------------------

    @property
    def _aborting(self) -> bool:
        return self._abort_control is not None or self._abort_bulk is not None

    def _abort_bulk_half(self, seq: int) -> None:
        self._give_up()
        if self._abort_control not in (None, seq):
            raise Refused(Error.CMD_ABORTED)
        if self._abort_bulk is not None:
            self._refuse(SlotStatus, self._abort_bulk, Error.CMD_ABORTED)
        self._abort_bulk = seq
        self._finish_abort()

    def _give_up(self) -> None:
        """Stop what runs; a card's own work cannot be stopped, but nobody gets its result."""
        if not self._aborting:
            self._outbox.discard(self._number, self.seq)
        self._drop_work(Event.ABORT)

    def _finish_abort(self) -> None:
        both = self._abort_control is not None and self._abort_control == self._abort_bulk
        if both and self.state is not State.DRAINING:
            self.seq = self._abort_control or 0
            self._abort_control = self._abort_bulk = None
            self._reply_status()

    # --- the rest ------------------------------------------------------------------------

    def _move(self, event: Event) -> None:
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise LocalProtocolError(f"{event.name} in state {self.state.name}") from None

    def _drop_work(self, event: Event) -> None:
        """Leave whatever runs; only a card that still executes is waited for."""
        if self.state in (State.POWERING, State.TYPING) and event is not Event.FAILED:
            self._outbox.actions.append(Cancel(self._number, self._work))
        if self.state is State.POWERING and event is Event.ABORT:
            # The card may be powered by now, and the result on its way.
            self._outbox.actions.append(PowerOff(self._number))
        self._move(event)
        self._pin = None
        self._chaining.forget()
        if self.state is not State.DRAINING:
            self._work += 1
        if ICC_STATUS[self.state] is not IccStatus.ACTIVE:
            self._line.off()

    def _is_current(self, work: int) -> bool:
        return work == self._work and (self.state in BUSY or self.state is State.DRAINING)

    def _running_answer(self) -> type[Response] | None:
        return DataBlock if self.state in BUSY else None

    def _transmit(self, apdu: bytes) -> None:
        self._work += 1
        self._line.clock = _RUNNING
        self._outbox.actions.append(Transmit(self._number, self._work, apdu))

    def _reply(self, kind: type[Response], *, specific: int = 0, data: bytes = b"") -> None:
        self._respond(
            kind(
                self._number, self.seq, ICC_STATUS[self.state], _DONE, 0, specific, data,
            )
        )  # fmt: skip

    def _refuse(self, kind: type[Response], seq: int, error: int) -> None:
        """Fail a command: no data, and byte 9 as the type has it (6.2)."""
        specific = self._line.clock if kind is SlotStatus else 0
        self._respond(
            kind(
                self._number, seq, ICC_STATUS[self.state], CommandStatus.FAILED, error, specific
            )
        )  # fmt: skip

    def _respond(self, response: Response) -> None:
        self._outbox.responses.append((response, self.stamp))
