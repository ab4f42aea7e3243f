# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exchange levels: what XfrBlock carries, how long APDUs are cut (CCID rev 1.1, 6.1.4, 6.2.1)."""

from __future__ import annotations

from typing import Final

from vccid.ccid.class_descriptor import LONGEST_APDU, ClassDescriptor
from vccid.ccid.codes import Chain, Error, Feature
from vccid.ccid.messages import HEADER_SIZE, Refused

#: A short command APDU and its response (ISO/IEC 7816-3, 12.1.3).
_SHORT_COMMAND: Final = 261
_SHORT_RESPONSE: Final = 258
#: A block of T=1: prologue, 254 bytes, and an EDC of two (11.3). T=0's TPDUs are as short APDUs.
_LONGEST_BLOCK: Final = 259
_LONGEST_RESPONSE: Final = 65538
_WHOLE: Final = Chain.WHOLE


class Chaining:
    """A command that comes, or a response that goes, in more than one message."""

    def __init__(self, descriptor: ClassDescriptor) -> None:
        self._extended = Feature.EXTENDED_APDU in descriptor.features
        self._longest = _LONGEST_RESPONSE if self._extended else _SHORT_RESPONSE
        if Feature.TPDU in descriptor.features:
            self._longest = _LONGEST_BLOCK
        self._part = descriptor.max_message - HEADER_SIZE
        self._command: bytearray | None = None
        self._response = b""

    def forget(self) -> None:
        """Drop what is half-way."""
        self._command = None
        self._response = b""

    def command(self, level: int, data: bytes) -> bytes | None:
        """Take what one XfrBlock carries.

        Returns:
            The whole APDU or TPDU, or None where the host is to send more or wants more.

        Raises:
            Refused: BAD_LEVEL, BAD_LENGTH, XFR_OVERRUN.
        """
        if not self._extended:
            if level != _WHOLE:
                raise Refused(Error.BAD_LEVEL)
            if not 1 <= len(data) <= _SHORT_COMMAND:
                raise Refused(Error.BAD_LENGTH)
            return data
        if level == _WHOLE and self._command is None and 1 <= len(data) <= LONGEST_APDU:
            self._response = b""
            return data
        if level == Chain.EMPTY:
            self._check_continued(data)
            return None
        open_chain, self._command, self._response = self._command, None, b""
        if level not in (Chain.WHOLE, Chain.BEGINS, Chain.ENDS, Chain.CONTINUES):
            raise Refused(Error.BAD_LEVEL)
        continues = level in (Chain.ENDS, Chain.CONTINUES)
        if continues != (open_chain is not None):
            raise Refused(Error.BAD_LEVEL)
        return self._take(level, bytearray() if open_chain is None else open_chain, data)

    def _take(self, level: int, assembled: bytearray, data: bytes) -> bytes | None:
        if level == Chain.WHOLE:
            apdu = data
        else:
            assembled += data
            if len(assembled) > LONGEST_APDU:
                raise Refused(Error.BAD_LENGTH)
            if level != Chain.ENDS:
                self._command = assembled
                return None
            apdu = bytes(assembled)
        if not 1 <= len(apdu) <= LONGEST_APDU:
            raise Refused(Error.BAD_LENGTH)
        return apdu

    def _check_continued(self, data: bytes) -> None:
        """0010h: nothing but "go on with the response"."""
        if data:
            raise Refused(Error.BAD_LENGTH)
        if not self._response:
            self._command = None
            raise Refused(Error.BAD_LEVEL)

    def answer(self, response: bytes) -> tuple[Chain, bytes]:
        """Begin a response: its bChainParameter and first part.

        Raises:
            Refused: XFR_OVERRUN, longer than the level allows.
        """
        if len(response) > self._longest:
            raise Refused(Error.XFR_OVERRUN)
        if len(response) <= self._part:
            return _WHOLE, response
        if not self._extended:
            raise Refused(Error.XFR_OVERRUN)
        self._response = response[self._part :]
        return Chain.BEGINS, response[: self._part]

    def next_part(self) -> tuple[Chain, bytes]:
        """The response's next part."""
        part, self._response = self._response[: self._part], self._response[self._part :]
        return (Chain.CONTINUES if self._response else Chain.ENDS), part
