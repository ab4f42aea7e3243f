# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each command does to its slot (CCID rev 1.1, 6.1), once it is known that it may."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import Chain, Error, Feature, PinSupport
from vccid.ccid.messages import (
    T0APDU,
    Command,
    Escape,
    GetParameters,
    GetSlotStatus,
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
)
from vccid.ccid.pin_entry import PinOperation, PinRequest
from vccid.ccid.responses import (
    DataBlock,
    DataRateAndClockFrequency,
    EscapeAnswer,
    ParametersAnswer,
)
from vccid.ccid.slot_work import SlotWork
from vccid.ccid.states import Event, State
from vccid.errors import LocalProtocolError

#: What Escape commands are answered with; None where there is no such command.
Escapes = Callable[[bytes], bytes | None]


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


def _no_escapes(data: bytes) -> None:
    return None


class Commands:
    """The commands of one slot.

    Attributes:
        pin: the entry that Secure began last; of use while the slot is TYPING.
    """

    def __init__(
        self,
        descriptor: ClassDescriptor,
        slot: SlotWork,
        escape: Escapes | None,
        has_pin_pad: bool,
    ) -> None:
        self.pin: PinRequest | None = None
        self._descriptor = descriptor
        self._slot = slot
        self._escape = escape or _no_escapes
        self._not_offered = _not_offered(descriptor, escape is not None, has_pin_pad)

    def check_offered(self, command: Command) -> None:
        """What the class descriptor does not announce is CMD_NOT_SUPPORTED.

        Raises:
            Refused: it does not.
        """
        if type(command) in self._not_offered:
            self._refuse_not_offered(command)

    @staticmethod
    def _refuse_not_offered(command: Command) -> NoReturn:
        if isinstance(command, Mechanical) and not 1 <= command.function <= 5:
            raise Refused(Error.BAD_FIELD_7)
        raise Refused(Error.CMD_NOT_SUPPORTED)

    def execute(self, command: Command) -> None:
        """Do what it says; the answer may come later, by a result of the owner's.

        Raises:
            Refused: a field or a length is wrong.
        """
        slot = self._slot
        match command:
            case XfrBlock():
                self._xfr_block(command)
            case GetSlotStatus():
                slot.reply_status()
            case IccPowerOn():
                self._icc_power_on(command)
            case IccPowerOff():
                self._icc_power_off()
            case Secure():
                self._secure(command)
            case GetParameters():
                self._reply_parameters()
            case ResetParameters():
                slot.line.reset_parameters()
                self._reply_parameters()
            case SetParameters():
                slot.line.set_parameters(command)
                self._reply_parameters()
            case IccClock():
                slot.line.set_clock(command)
                slot.reply_status()
            case T0APDU():
                self._t0_apdu(command)
            case Escape():
                answer = self._escape(command.data)
                if answer is None:
                    raise Refused(Error.CMD_NOT_SUPPORTED)
                slot.reply(EscapeAnswer, data=answer)
            case SetDataRateAndClockFrequency():
                self._reply_rate()
            case _:
                raise LocalProtocolError(f"no slot executes {type(command).__name__}")

    def _icc_power_on(self, command: IccPowerOn) -> None:
        self._slot.line.check_voltage(command)
        self._slot.move(Event.POWER_ON)
        self._slot.chaining.forget()
        self._slot.power_on()

    def _icc_power_off(self) -> None:
        slot = self._slot
        slot.move(Event.POWER_OFF)
        slot.chaining.forget()
        slot.line.off()
        if slot.state is not State.ABSENT:
            slot.power_off()
        slot.reply_status()

    def _xfr_block(self, command: XfrBlock) -> None:
        slot = self._slot
        apdu = slot.chaining.command(command.level, command.data)
        if apdu is not None:
            slot.move(Event.TRANSMIT)
            slot.transmit(apdu)
        elif command.level == Chain.EMPTY:
            chain, data = slot.chaining.next_part()
            slot.reply(DataBlock, specific=chain, data=data)
        else:
            slot.reply(DataBlock, specific=Chain.EMPTY)

    def _secure(self, command: Secure) -> None:
        if command.level != Chain.WHOLE:
            raise Refused(Error.BAD_LEVEL)
        request = PinRequest.parse(command.data, self._slot.line.longest_typed)
        wanted = (
            PinSupport.VERIFY if request.operation is PinOperation.VERIFY else PinSupport.MODIFY
        )
        if wanted not in self._descriptor.pin_support:
            raise Refused(Error.CMD_NOT_SUPPORTED)
        self._slot.chaining.forget()
        self._slot.move(Event.ASK_PIN)
        self.pin = request
        self._slot.ask_pin(request)

    def _reply_parameters(self) -> None:
        parameters = self._slot.line.parameters
        self._slot.reply(
            ParametersAnswer, specific=parameters.PROTOCOL, data=parameters.serialize()
        )

    def _reply_rate(self) -> None:
        # 6.1.14: "the value really set"; clock and rate are the reader's own affair.
        data = DataRateAndClockFrequency.DATA.pack(
            self._descriptor.clock, self._descriptor.data_rates[0]
        )
        self._slot.reply(DataRateAndClockFrequency, data=data)

    def _t0_apdu(self, command: T0APDU) -> None:
        """6.1.10. The classes change nothing: the card never asks for GET RESPONSE or ENVELOPE."""
        if command.changes > 3:
            raise Refused(Error.BAD_FIELD_7)
        self._slot.reply_status()
