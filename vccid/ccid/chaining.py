# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exchange levels: what XfrBlock carries, how long APDUs are cut (CCID rev 1.1, 6.1.4, 6.2.1)."""

from __future__ import annotations

from typing import Final

from vccid.ccid.chaining_states import CHAIN, Event, State
from vccid.ccid.class_descriptor import LONGEST_APDU, ClassDescriptor
from vccid.ccid.codes import Chain, Error, Feature
from vccid.ccid.messages import HEADER_SIZE, Refused

#: A short command APDU and its response (ISO/IEC 7816-3, 12.1.3).
_SHORT_COMMAND: Final = 261
_SHORT_RESPONSE: Final = 258
#: A block of T=1: prologue, 254 bytes, and an EDC of two (11.3). T=0's TPDUs are as short APDUs.
_LONGEST_BLOCK: Final = 259
_LONGEST_RESPONSE: Final = 65538
#: Looked up once, not for every APDU.
_WHOLE: Final = Chain.WHOLE
_NONE: Final = State.NONE

#: wLevelParameter of a message that has a command, or a part of one.
_LEVELS: Final[dict[int, Event]] = {
    Chain.WHOLE: Event.WHOLE,
    Chain.BEGINS: Event.BEGINS,
    Chain.ENDS: Event.ENDS,
    Chain.CONTINUES: Event.CONTINUES,
}


class Chaining:
    """A command that comes, or a response that goes, in more than one message."""

    def __init__(self, descriptor: ClassDescriptor) -> None:
        self._extended = Feature.EXTENDED_APDU in descriptor.features
        self._longest = _LONGEST_RESPONSE if self._extended else _SHORT_RESPONSE
        if Feature.TPDU in descriptor.features:
            self._longest = _LONGEST_BLOCK
        self._part = descriptor.max_message - HEADER_SIZE
        self._state = CHAIN.initial
        self._command = bytearray()  # the parts that came
        self._response = b""  # what was not asked for yet

    def forget(self) -> None:
        """Drop what is half-way."""
        if self._state is not _NONE:
            self._end(Event.FORGET)

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
        if level == _WHOLE and self._state is _NONE and 1 <= len(data) <= LONGEST_APDU:
            return data
        if level == Chain.EMPTY:
            self._check_continued(data)
            return None
        event = _LEVELS.get(level)
        if event is None or event not in CHAIN.transitions[self._state]:
            raise self._refused(Error.BAD_LEVEL)
        if event is Event.WHOLE:
            return self._whole(data)
        return self._take(event, data)

    def _whole(self, apdu: bytes) -> bytes:
        if not 1 <= len(apdu) <= LONGEST_APDU:
            raise self._refused(Error.BAD_LENGTH)
        self._end(Event.WHOLE)
        return apdu

    def _take(self, event: Event, part: bytes) -> bytes | None:
        if event is Event.BEGINS:
            self._end(event)
        else:
            self._move(event)
        self._command += part
        if len(self._command) > LONGEST_APDU:
            raise self._refused(Error.BAD_LENGTH)
        if event is not Event.ENDS:
            return None
        if not self._command:
            raise self._refused(Error.BAD_LENGTH)
        apdu, self._command = bytes(self._command), bytearray()
        return apdu

    def _check_continued(self, data: bytes) -> None:
        """0010h: nothing but "go on with the response"."""
        if data:
            raise Refused(Error.BAD_LENGTH)
        if self._state is not State.RESPONSE:
            raise self._refused(Error.BAD_LEVEL)

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
        self._move(Event.RESPONSE_BEGINS)
        self._response = response[self._part :]
        return Chain.BEGINS, response[: self._part]

    def next_part(self) -> tuple[Chain, bytes]:
        """The response's next part."""
        part, self._response = self._response[: self._part], self._response[self._part :]
        self._move(Event.RESPONSE_CONTINUES if self._response else Event.RESPONSE_ENDS)
        return (Chain.CONTINUES if self._response else Chain.ENDS), part

    def _refused(self, error: Error) -> Refused:
        """What is half-way ends with a message that is out of turn or too long."""
        self._end(Event.REFUSED)
        return Refused(error)

    def _end(self, event: Event) -> None:
        """Move away from what is half-way."""
        self._move(event)
        self._command = bytearray()
        self._response = b""

    def _move(self, event: Event) -> None:
        self._state = CHAIN.after(self._state, event)
