# SPDX-License-Identifier: LGPL-2.1-or-later
"""A GemPC Twin on a serial line, or a GemPC PinPad: what libccid takes it for and asks of it.

There are no descriptors on a serial line: libccid has them built in (ccid_serial.c).
"""

from __future__ import annotations

from typing import Final

from vccid import __version__
from vccid.ccid.class_descriptor import NO_PIN_PAD, SHORT_MESSAGE, ClassDescriptor
from vccid.ccid.codes import Feature, PinSupport

_FIRMWARE: Final = b"\x02"
#: Set a parameter of the reader; libccid asks for card movements to be told before an answer only.
_CONFIGURE: Final = b"\x01"
#: Load the strings of the PinPad's display.
_LOAD_STRINGS: Final = b"\xb2\xa0"


def descriptor(*, pin_pad: bool = False) -> ClassDescriptor:
    """TPDUs, dwFeatures 00010230h: the host selects the voltage, makes PPS and sets parameters."""
    return ClassDescriptor(
        features=Feature.TPDU | Feature.NAD | Feature.AUTO_CLOCK | Feature.AUTO_BAUD_RATE,
        max_message=SHORT_MESSAGE,
        pin_support=PinSupport.VERIFY | PinSupport.MODIFY if pin_pad else NO_PIN_PAD,
    )


def escape(command: bytes) -> bytes | None:
    """The answer to an Escape command, or None where there is no such command."""
    if command == _FIRMWARE:
        return f"vccid {__version__}".encode()
    if command[:1] == _CONFIGURE or command[:2] == _LOAD_STRINGS:
        return b""
    return None
