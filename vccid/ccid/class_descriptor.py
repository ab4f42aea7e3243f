# SPDX-License-Identifier: LGPL-2.1-or-later
"""The class descriptor (CCID rev 1.1, 5.1): what a reader announces, and so what it does.

The slot machine takes its settings from here, so that the two can never differ.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final

from vccid.ccid.codes import Feature, PinSupport
from vccid.errors import RemoteProtocolError

#: 65,544 bytes are the longest extended APDU (4 + 3 + 65,535 + 2), 10 the header.
LONGEST_APDU: Final = 65544
#: So no host needs to chain.
LONGEST_MESSAGE: Final = 10 + LONGEST_APDU
#: 261 bytes are the longest short APDU, 10 the header.
SHORT_MESSAGE: Final = 271

#: Windows wants these counted and listed, though a host has nothing to choose.
#: bit/s at 4 MHz with F = 372 and D = 1, 2, 4, 8, 16, 32 (ISO/IEC 7816-3, tables 7 and 8).
DATA_RATES: Final = tuple(4_000_000 * d // 372 for d in (1, 2, 4, 8, 16, 32))

#: Everything is done by the reader: a host has nothing to configure before an APDU.
_AUTOMATIC: Final = (
    Feature.AUTO_PARAMETERS
    | Feature.AUTO_VOLTAGE
    | Feature.AUTO_CLOCK
    | Feature.AUTO_BAUD_RATE
    | Feature.AUTO_NEGOTIATION
    | Feature.AUTO_IFSD
)


NO_PIN_PAD: Final = PinSupport(0)


@dataclass(frozen=True, slots=True)
class ClassDescriptor:
    """The 54 bytes behind the interface descriptor, in the standard's order and names.

    Attributes:
        clock: dwDefaultClock and dwMaximumClock, kHz.
        data_rates: bit/s, ascending; the first is dwDataRate, the last dwMaxDataRate.
        max_message: dwMaxCCIDMessageLength, bytes, the ten of the header included.
    """

    max_slot_index: int = 0
    voltage: int = 0x07
    protocols: int = 0x3
    clock: int = 4000
    data_rates: tuple[int, ...] = DATA_RATES
    max_ifsd: int = 254
    features: Feature = _AUTOMATIC | Feature.EXTENDED_APDU
    max_message: int = LONGEST_MESSAGE
    class_get_response: int = 0xFF
    class_envelope: int = 0xFF
    pin_support: PinSupport = NO_PIN_PAD
    max_busy_slots: int = 1

    #: bLength, bDescriptorType, bcdCCID, bMaxSlotIndex, bVoltageSupport, dwProtocols,
    #: dwDefaultClock, dwMaximumClock, bNumClockSupported, dwDataRate, dwMaxDataRate,
    #: bNumDataRatesSupported, dwMaxIFSD, dwSynchProtocols, dwMechanical, dwFeatures,
    #: dwMaxCCIDMessageLength, bClassGetResponse, bClassEnvelope, wLcdLayout, bPINSupport,
    #: bMaxCCIDBusySlots
    STRUCT: ClassVar[struct.Struct] = struct.Struct("<BBHBBIIIBIIBIIIIIBBHBB")

    @classmethod
    def for_reader(
        cls,
        slots: int = 1,
        *,
        extended: bool = True,
        max_message: int | None = None,
        pin_pad: bool = False,
        clock_stop: bool = False,
    ) -> ClassDescriptor:
        """What vccid's reader announces.

        Args:
            slots: 1 to 16; all may be busy at once.
            extended: exchange of short and extended APDUs, else of short ones only.
            max_message: dwMaxCCIDMessageLength; the longest APDU's where None.
            pin_pad: offer PIN verification and modification.
            clock_stop: offer IccClock.
        """
        features = _AUTOMATIC | (Feature.EXTENDED_APDU if extended else Feature.SHORT_APDU)
        if clock_stop:
            features |= Feature.CLOCK_STOP
        return cls(
            max_slot_index=slots - 1,
            features=features,
            max_message=max_message or (LONGEST_MESSAGE if extended else SHORT_MESSAGE),
            pin_support=PinSupport.VERIFY | PinSupport.MODIFY if pin_pad else NO_PIN_PAD,
            max_busy_slots=slots,
        )

    @classmethod
    def parse(cls, raw: bytes) -> ClassDescriptor:
        """Read a descriptor; the list of data rates holds its two ends only.

        Raises:
            RemoteProtocolError: it is not a class descriptor of 54 bytes.
        """
        if len(raw) != cls.STRUCT.size or raw[0] != cls.STRUCT.size or raw[1] != 0x21:
            raise RemoteProtocolError("no CCID class descriptor")
        (_, _, _, slots, voltage, protocols, clock, _, _, rate, max_rate, _, ifsd, _, _, features,
         message, get_response, envelope, _, pin, busy) = cls.STRUCT.unpack(raw)  # fmt: skip
        return cls(
            slots, voltage, protocols, clock, (rate, max_rate), ifsd, Feature(features), message,
            get_response, envelope, PinSupport(pin & 3), busy,
        )  # fmt: skip

    def serialize(self) -> bytes:
        """The 54 bytes: revision 1.10, one clock, no synchronous card, no lock, no display."""
        return self.STRUCT.pack(
            self.STRUCT.size, 0x21, 0x0110, self.max_slot_index, self.voltage, self.protocols,
            self.clock, self.clock, 1, self.data_rates[0], self.data_rates[-1],
            len(self.data_rates), self.max_ifsd, 0, 0, self.features, self.max_message,
            self.class_get_response, self.class_envelope, 0, self.pin_support,
            self.max_busy_slots,
        )  # fmt: skip
