# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PIN pad as programs use it through pcscd: PC/SC part 10's features, by SCardControl.

The driver gives its own list of features and of properties; what a pad adds comes from here.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable
from typing import Final

from vccid.card.card import Session
from vccid.ccid.pin_entry import CONFIRMATION_FAILED, PinEnd, PinOperation, PinRequest
from vccid.errors import CardRemoved, ReaderError, RemoteProtocolError
from vccid.frontends.pin_pad import PinPad
from vccid.reader import Reader

log = logging.getLogger(__name__)

#: SCARD_CTL_CODE(n), as pcsc-lite defines it for everything but Windows (PCSC/reader.h).
_CTL_CODE: Final = 0x42000000
#: CM_IOCTL_GET_FEATURE_REQUEST
GET_FEATURES: Final = _CTL_CODE + 3400
#: Codes of features can be chosen freely; these are where libccid has them.
_FEATURE_CODE: Final = _CTL_CODE + 0x330000

#: PC/SC part 10, 2.2
_VERIFY_PIN_DIRECT: Final = 0x06
_MODIFY_PIN_DIRECT: Final = 0x07
_IFD_PIN_PROPERTIES: Final = 0x0A
_GET_TLV_PROPERTIES: Final = 0x12

#: tag, length, control code: the code alone is big-endian (PC/SC part 10, 2.2)
_FEATURE: Final = struct.Struct(">BBI")
#: wLcdLayout: no display; bEntryValidationCondition: the validation key; bTimeOut2: the same
#: time for every digit (PC/SC part 10, 2.5.5)
_PROPERTIES: Final = struct.pack("<HBB", 0x0000, 0x02, 0)
#: the same three: tag, length, little-endian value (PC/SC part 10, 2.6.14)
_TLV_PROPERTIES: Final = struct.pack("<BBHBBBBBB", 1, 2, 0x0000, 2, 1, 0x02, 3, 1, 0)

_OPERATIONS: Final = {
    _FEATURE_CODE + _VERIFY_PIN_DIRECT: PinOperation.VERIFY,
    _FEATURE_CODE + _MODIFY_PIN_DIRECT: PinOperation.MODIFY,
}
_TOLD: Final = {
    GET_FEATURES: b"".join(
        _FEATURE.pack(tag, 4, _FEATURE_CODE + tag)
        for tag in (_VERIFY_PIN_DIRECT, _MODIFY_PIN_DIRECT, _IFD_PIN_PROPERTIES)
    ),
    _FEATURE_CODE + _IFD_PIN_PROPERTIES: _PROPERTIES,
    _FEATURE_CODE + _GET_TLV_PROPERTIES: _TLV_PROPERTIES,
}

#: SW of PC/SC part 10, 2.5.3, for an entry that brought no PIN.
_ENDED: Final = {PinEnd.TIMEOUT: b"\x64\x00", PinEnd.CANCELLED: b"\x64\x01"}


class PinPadControls:
    """What a reader's PIN pad answers to one driver's control codes."""

    def __init__(self, reader: Reader, pin_pad: PinPad, host: str) -> None:
        """`host` is who asks, for people."""
        self._reader = reader
        self._pin_pad = pin_pad
        self._host = host

    def answer(
        self, code: int, data: bytes, session: Session | None
    ) -> bytes | Awaitable[bytes] | None:
        """Serve a control code.

        Args:
            session: the card as it is powered, or None.

        Returns:
            What the application gets, at once or once a person has typed; None where the code
            is none of a PIN pad's, or its PIN structure is wrong.

        Raises:
            CardRemoved: out of the awaitable: the session was over before a PIN came.
            ReaderError: out of the awaitable: no card is powered.
        """
        if (told := _TOLD.get(code)) is not None:
            return told
        if (operation := _OPERATIONS.get(code)) is None:
            return None
        try:
            request = PinRequest.parse_part10(operation, data)
        except RemoteProtocolError as error:
            log.info("PIN entry refused: %s", error.message, extra={"reader": self._reader.name})
            return None
        return self._run(request, session)

    async def _run(self, request: PinRequest, session: Session | None) -> bytes:
        if session is None:
            raise ReaderError("a PIN was asked for while the card was not powered")
        typed = await self._ask(request, session)
        if isinstance(typed, PinEnd):
            return _ENDED[typed]
        command = request.complete(typed)
        return CONFIRMATION_FAILED if command is None else await session.transmit(command)

    async def _ask(self, request: PinRequest, session: Session) -> tuple[str, ...] | PinEnd:
        asking = asyncio.ensure_future(self._pin_pad.ask(self._host, request))
        over = asyncio.ensure_future(self._reader.wait_over(session))
        try:
            await asyncio.wait({asking, over}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                raise CardRemoved("the card was removed while a PIN was asked for")
            return asking.result()
        finally:
            asking.cancel()
            over.cancel()
