# SPDX-License-Identifier: LGPL-2.1-or-later
"""The line to a powered card: voltage, protocol parameters and clock (CCID rev 1.1, 6.1)."""

from __future__ import annotations

from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import ClockStatus, Error, Feature, Protocol
from vccid.ccid.messages import IccClock, IccPowerOn, Refused, SetParameters
from vccid.ccid.parameters import Offer, Parameters, ParametersT0, ParametersT1
from vccid.ccid.pin_entry import LONGEST_COMMAND
from vccid.iso7816.t1_blocks import Block, Edc


class Line:
    """What the reader uses towards the card; the host may look and, within limits, set.

    Attributes:
        clock: bClockStatus.
        parameters: those in force.
    """

    def __init__(self, descriptor: ClassDescriptor) -> None:
        self.clock = ClockStatus.STOPPED_LOW
        self.parameters: Parameters = ParametersT0()
        self._descriptor = descriptor
        self._offer: Offer | None = None

    def check_voltage(self, command: IccPowerOn) -> None:
        """6.1.1: bPowerSelect 0 is automatic, 1 to 3 stand for the bits of bVoltageSupport.

        Raises:
            Refused: a voltage the reader does not have.
        """
        select = command.power_select
        if select > 3 or (select and not self._descriptor.voltage >> (select - 1) & 1):
            raise Refused(Error.BAD_FIELD_7)

    def powered(self, atr: bytes) -> None:
        """Take the card's own parameters from its ATR.

        Raises:
            Refused: the ATR is damaged or offers nothing this reader has.
        """
        offer = Offer.parse(atr)
        self.parameters = self._initial(offer)
        self._offer = offer
        self.clock = ClockStatus.RUNNING

    def off(self) -> None:
        """The card has no power."""
        self.clock = ClockStatus.STOPPED_LOW
        self._offer = None

    def set_parameters(self, command: SetParameters) -> None:
        """6.1.7.

        Raises:
            Refused: with the offset of the wrong field.
        """
        offered = self._offer is not None and command.protocol in self._offer.atr.protocols
        if not offered or not self._descriptor.protocols >> command.protocol & 1:
            raise Refused(Error.BAD_FIELD_7)
        if command.protocol == Protocol.T0:
            self.parameters = ParametersT0.parse(command.data)
        else:
            nad = Feature.NAD in self._descriptor.features
            self.parameters = ParametersT1.parse(command.data, nad=nad)

    def reset_parameters(self) -> None:
        """6.1.6: what the reader uses without the host's help, the protocol too."""
        if self._offer is not None:
            self.parameters = self._initial(self._offer)

    def _initial(self, offer: Offer) -> Parameters:
        """The card's own where the reader looks for them, else the standard's."""
        protocol = offer.choose(self._descriptor.protocols, self._descriptor.voltage)
        if Feature.AUTO_PARAMETERS in self._descriptor.features:
            return offer.parameters(protocol)
        return ParametersT0() if protocol == Protocol.T0 else ParametersT1()

    @property
    def longest_typed(self) -> int:
        """Bytes of the longest command that `as_sent` takes."""
        block = self._block_parameters()
        return LONGEST_COMMAND if block is None else block.ifsc

    def as_sent(self, prologue: bytes, apdu: bytes) -> bytes:
        """A command completed at the key pad, as level and protocol want it (6.1.11).

        Args:
            prologue: bTeoPrologue: NAD, PCB and LEN of the block before the PIN went in.
            apdu: at most `longest_typed` bytes.
        """
        block = self._block_parameters()
        if block is None:
            return apdu
        return Block(prologue[0], prologue[1], apdu).serialize(Edc(block.tccks & 1))

    def _block_parameters(self) -> ParametersT1 | None:
        """Those in force where the host sends T=1 blocks, None where it does not."""
        is_tpdu = Feature.TPDU in self._descriptor.features
        return self.parameters if is_tpdu and isinstance(self.parameters, ParametersT1) else None

    def set_clock(self, command: IccClock) -> None:
        """6.1.9.

        Raises:
            Refused: no such command, or the card allows no clock stop.
        """
        if command.clock_command > 1:
            raise Refused(Error.BAD_FIELD_7)
        if command.clock_command == 0:
            self.clock = ClockStatus.RUNNING
        elif self.parameters.clock_stop == 0:
            raise Refused(Error.CMD_NOT_SUPPORTED)
        else:
            high = self.parameters.clock_stop == 2
            self.clock = ClockStatus.STOPPED_HIGH if high else ClockStatus.STOPPED_LOW
