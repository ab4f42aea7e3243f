# SPDX-License-Identifier: LGPL-2.1-or-later
"""The GlobalPlatform card manager and Microsoft's plug-and-play applet: GET DATA, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vccid.card.cac.applet import Applet, AppletSession, file_control_information
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_DATA, Command

CARD_MANAGER_AID: Final = bytes.fromhex("A0000000030000")
MICROSOFT_AID: Final = bytes.fromhex("A0000003974349445F0100")

#: The card manager's FCI names one byte more than selects it; 9F6E life cycle, 9F65 longest data.
_CARD_MANAGER_FCI: Final = file_control_information(
    CARD_MANAGER_AID + b"\x00", bytes.fromhex("9F6E06129151810100 9F6501FF")
)

#: Card production life cycle, libcacard's but for IC serial number (4) and batch (2), which come
#: between.
_CPLC_BEFORE_SERIAL: Final = bytes.fromhex(
    "9F7F2A"  # tag, length
    "0005"  # IC fabricator
    "0045"  # IC type
    "D001"  # operating system
    "4021"  # its release date
    "0101"  # its release level
    "074F"  # IC fabrication date
)
_CPLC_BEHIND_BATCH: Final = bytes.fromhex(
    "4792"  # IC module fabricator
    "7205"  # IC module packaging date
    "1673"  # ICC manufacturer
    "7205"  # IC embedding date
    "1674"  # IC pre-personaliser
    "7205"  # its date
    "00000A40"  # its equipment
    "0000"  # IC personaliser
    "0000"  # its date
    "000929BB"  # its equipment
)
#: IC serial number and batch: with the rest alike, they alone tell one card from another.
CPLC_SERIAL_SIZE: Final = 6

#: Card recognition data (GlobalPlatform 2.3, H.2): object identifiers.
_CARD_RECOGNITION_DATA: Final = bytes.fromhex(
    "6631 732F"
    "0607 2A864886FC6B01"
    "600C 060A 2A864886FC6B02020201"  # card management type and version 2.2.1
    "6309 0607 2A864886FC6B03"  # card identification scheme
    "640B 0609 2A864886FC6B040310"  # secure channel protocol 03, option 10
)

#: Windows looks a driver up by this identifier; it names a kind of card, not one card.
_MICROSOFT_PLUG_AND_PLAY: Final = bytes.fromhex(
    "301D 020100 1604 4D534654 3012 0410 E280E9D25188874F81D64F254E38001D"
)


class DataApplet(Applet):
    """An applet that answers GET DATA (ISO/IEC 7816-4:2020, 11.4.3) for a few tags."""

    def __init__(self, aid: bytes, fci: bytes, data: Mapping[int, bytes]) -> None:
        super().__init__(aid, fci, status.COMMAND_NOT_ALLOWED)
        self._data = data
        self.handlers = {INS_GET_DATA: self.get_data}

    def owns(self, command: Command) -> bool:
        return command.ins == INS_GET_DATA

    def get_data(self, session: AppletSession, command: Command) -> bytes:
        """GET DATA: P1 P2 the tag."""
        data = self._data.get(command.p1 << 8 | command.p2)
        if data is None:
            return status.REFERENCED_DATA_NOT_FOUND
        return data + status.SUCCESS


def card_manager(serial: bytes) -> DataApplet:
    """The card manager, with the serial number (`CPLC_SERIAL_SIZE` bytes) in its CPLC data."""
    cplc = _CPLC_BEFORE_SERIAL + serial + _CPLC_BEHIND_BATCH
    return DataApplet(
        CARD_MANAGER_AID, _CARD_MANAGER_FCI, {0x9F7F: cplc, 0x0066: _CARD_RECOGNITION_DATA}
    )


def microsoft_applet() -> DataApplet:
    """Microsoft's plug-and-play applet."""
    return DataApplet(
        MICROSOFT_AID,
        file_control_information(MICROSOFT_AID),
        {0x7F68: _MICROSOFT_PLUG_AND_PLAY},
    )
