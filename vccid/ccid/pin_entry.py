# SPDX-License-Identifier: LGPL-2.1-or-later
"""PIN entry at the reader: its structures, and the template APDU they complete.

CCID rev 1.1, 6.1.11 (abPINDataStructure), and PC/SC part 10, 2.6.14 and 2.6.15, whose
structures hold the same fields in a slightly different order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import ClassVar, Final, Literal

from vccid.ccid.codes import Error
from vccid.ccid.messages import Refused
from vccid.errors import RemoteProtocolError

Prompt = Literal["current", "new", "confirm"]

#: SW of PC/SC part 10, 2.5.3: the new PIN and its confirmation differ.
CONFIRMATION_FAILED: Final = b"\x64\x02"

#: CLA INS P1 P2 at least
_SHORTEST_APDU: Final = 4
#: CLA to Le, where Lc is one byte
LONGEST_COMMAND: Final = 5 + 255 + 1

_LOWEST_INS: Final = 0x04
_DEFAULT_MESSAGES: Final = 0xFF
#: bNumberMessage -> how many of bMsgIndex2 and 3 may follow bMsgIndex1 in MODIFY, the likeliest
#: first. 6.1.11.7 has bMsgIndex2 unless it is 0, and bMsgIndex3 where it is 3; libccid sends both
#: for FFh too, and to a GemPC PinPad always.
_INDICES: Final = {0: (0, 2), 1: (1, 2), 2: (1, 2), 3: (2,), _DEFAULT_MESSAGES: (2, 1)}


class PinOperation(IntEnum):
    """bPINOperation: those a reader with a key pad offers."""

    VERIFY = 0
    MODIFY = 1


class PinEnd(Enum):
    """How an entry ends when no PIN comes of it."""

    CANCELLED = Error.PIN_CANCELLED
    TIMEOUT = Error.PIN_TIMEOUT


@dataclass(frozen=True, slots=True)
class PinFormat:
    """How digits are laid into the template: bmFormatString, bmPINBlockString, bmPINLengthFormat.

    Attributes:
        encoding: 0 binary, 1 BCD, 2 ASCII.
        position: bits from the first byte of the APDU's data field to the PIN block.
        block: bytes of the PIN block, 0 where it is as long as the PIN.
        length_size: bits of the length field, 0 where none is inserted.
        length_position: bits from the first byte of the data field to the length field.
    """

    encoding: int
    right_justified: bool
    position: int
    block: int
    length_size: int
    length_position: int

    @classmethod
    def parse(cls, format_string: int, block_string: int, length_format: int) -> PinFormat:
        """Take the three bytes apart.

        Raises:
            Refused: the encoding is RFU; 0Ch is bmFormatString's offset in the message.
        """
        if format_string & 0x03 == 3:
            raise Refused(0x0C)
        return cls(
            encoding=format_string & 0x03,
            right_justified=bool(format_string & 0x04),
            position=(format_string >> 3 & 0x0F) * (8 if format_string & 0x80 else 1),
            block=block_string & 0x0F,
            length_size=block_string >> 4,
            length_position=(length_format & 0x0F) * (8 if length_format & 0x10 else 1),
        )

    def room(self, offset: int, size: int) -> int:
        """The most digits that fit into a data field of `size` bytes, `offset` bytes further on.

        No more than the PIN block holds, and no more than the length field counts.
        """
        start = self.position + 8 * offset
        fixed = max(self.end_of_block(offset), self.length_position + 8 * offset + self.length_size)
        if fixed > 8 * size:
            return 0
        digits = (8 * self.block or 8 * size - start) // self.width
        return min(digits, (1 << self.length_size) - 1) if self.length_size else digits

    @property
    def width(self) -> int:
        """Bits of a digit."""
        return 4 if self.encoding == 1 else 8

    def end_of_block(self, offset: int) -> int:
        """Bits up to the end of a PIN block, `offset` bytes further on."""
        return self.position + 8 * (offset + self.block)

    def insert(self, body: bytearray, pin: str, offset: int) -> None:
        """Lay a PIN into the data field, `offset` bytes further on; the field grows if it must."""
        width = self.width
        start = self.position + 8 * offset
        if self.length_size:
            _put(body, self.length_position + 8 * offset, self.length_size, len(pin))
        if self.right_justified:
            start += max(0, 8 * self.block - width * len(pin))
        for number, digit in enumerate(pin):
            value = ord(digit) if self.encoding == 2 else int(digit)
            _put(body, start + width * number, width, value)


@dataclass(frozen=True, slots=True)
class PinRequest:
    """An entry that a person is to make, and the command it completes.

    Attributes:
        timeout: seconds, 0 for the reader's own.
        minimum, maximum: digits of a PIN.
        prompts: what is to be typed, in order.
        offsets: for each prompt the byte of the data field its PIN goes to.
        template: the command APDU without the PIN.
        prologue: bTeoPrologue: NAD, PCB, LEN of the template's block where T=1 blocks are sent.
    """

    operation: PinOperation
    timeout: int
    format: PinFormat
    minimum: int
    maximum: int
    prompts: tuple[Prompt, ...]
    offsets: tuple[int, ...]
    template: bytes = field(repr=False)
    prologue: bytes = bytes(3)

    #: bTimeOut, bmFormatString, bmPINBlockString, bmPINLengthFormat, wPINMaxExtraDigit (low
    #: byte the maximum), bEntryValidationCondition, bNumberMessage, wLangId, bMsgIndex,
    #: bTeoPrologue; then abPINApdu. Begins at offset 11 of the message.
    VERIFY: ClassVar[struct.Struct] = struct.Struct("<BBBBBBBBHB3s")
    #: the same up to bmPINLengthFormat, then bInsertionOffsetOld, bInsertionOffsetNew,
    #: wPINMaxExtraDigit, bConfirmPIN, bEntryValidationCondition, bNumberMessage, wLangId,
    #: bMsgIndex1; then bMsgIndex2 and 3 as bNumberMessage has it, bTeoPrologue, abPINApdu.
    MODIFY: ClassVar[struct.Struct] = struct.Struct("<BBBBBBBBBBBHB")
    #: PIN_VERIFY_STRUCTURE and PIN_MODIFY_STRUCTURE of PC/SC part 10, packed: bTimerOut,
    #: bTimerOut2, bmFormatString, bmPINBlockString, bmPINLengthFormat; in MODIFY then
    #: bInsertionOffsetOld, bInsertionOffsetNew; wPINMaxExtraDigit; in MODIFY bConfirmPIN;
    #: bEntryValidationCondition, bNumberMessage, wLangId, bMsgIndex (three in MODIFY),
    #: bTeoPrologue, ulDataLength.
    PART10: ClassVar[dict[PinOperation, str]] = {
        PinOperation.VERIFY: "BBBBBHBBHB3sI",
        PinOperation.MODIFY: "BBBBBBBHBBBH3s3sI",
    }

    @classmethod
    def parse(cls, data: bytes, longest: int = LONGEST_COMMAND) -> PinRequest:
        """Read the data of PC_to_RDR_Secure: bPINOperation and what follows.

        Args:
            longest: bytes a completed command may have.

        Raises:
            Refused: with the offset of the wrong field, or BAD_LENGTH.
        """
        operation, body = data[0], data[1:]
        if operation == PinOperation.VERIFY:
            return cls._parse_verify(body, longest)
        if operation == PinOperation.MODIFY:
            return cls._parse_modify(body, longest)
        raise Refused(Error.CMD_NOT_SUPPORTED if operation <= 6 else Error.BAD_PIN_OPERATION)

    @classmethod
    def _parse_verify(cls, body: bytes, longest: int) -> PinRequest:
        if len(body) < cls.VERIFY.size + _SHORTEST_APDU:
            raise Refused(Error.BAD_LENGTH)
        (timeout, form, block, length, maximum, minimum, condition, messages, _, _, prologue) = (
            cls.VERIFY.unpack_from(body)
        )
        _check_condition(condition, 0x11)
        if messages not in (0, 1, 0xFF):
            raise Refused(0x12)
        form_of = PinFormat.parse(form, block, length)
        template = body[cls.VERIFY.size :]
        request = cls._verify(timeout, form_of, minimum, maximum, template, longest)
        return replace(request, prologue=prologue)

    @classmethod
    def _parse_modify(cls, body: bytes, longest: int) -> PinRequest:
        if len(body) < cls.MODIFY.size:
            raise Refused(Error.BAD_LENGTH)
        (timeout, form, block, length, old, new, maximum, minimum, confirm, condition, messages,
         _, _) = cls.MODIFY.unpack_from(body)  # fmt: skip
        if confirm > 3:
            raise Refused(0x13)
        _check_condition(condition, 0x14)
        start = cls.MODIFY.size + _indices(messages, body[cls.MODIFY.size :]) + 3
        template = body[start:]
        if len(template) < _SHORTEST_APDU:
            raise Refused(Error.BAD_LENGTH)
        form_of = PinFormat.parse(form, block, length)
        request = cls._modify(
            timeout, form_of, minimum, maximum, confirm, (old, new), template, longest
        )
        return replace(request, prologue=body[start - 3 : start])

    @classmethod
    def parse_part10(cls, operation: PinOperation, raw: bytes) -> PinRequest:
        """Read PIN_VERIFY_STRUCTURE or PIN_MODIFY_STRUCTURE.

        They are little-endian; where ulDataLength fits only as big-endian, all of it is taken
        so, as libccid does for programs that have it wrong.

        Raises:
            RemoteProtocolError: a length or a field is wrong.
        """
        size = struct.calcsize("<" + cls.PART10[operation])
        template = raw[size:]
        if len(template) < _SHORTEST_APDU:
            raise RemoteProtocolError("the PIN structure is too short")
        for order in "<>":
            fields = struct.unpack_from(order + cls.PART10[operation], raw)
            if fields[-1] == len(template):
                break
        else:
            raise RemoteProtocolError("ulDataLength of the PIN structure is wrong")
        form = PinFormat.parse(*fields[2:5])
        if operation == PinOperation.VERIFY:
            minimum, maximum = divmod(fields[5], 256)
            return cls._verify(fields[0], form, minimum, maximum, template)
        minimum, maximum = divmod(fields[7], 256)
        return cls._modify(
            fields[0], form, minimum, maximum, fields[8], (fields[5], fields[6]), template
        )

    @classmethod
    def _verify(
        cls,
        timeout: int,
        form: PinFormat,
        minimum: int,
        maximum: int,
        template: bytes,
        longest: int = LONGEST_COMMAND,
    ) -> PinRequest:
        size = _check_template(template, longest)
        maximum = _check_digits(minimum, maximum, 0x0F, form.room(0, size))
        return cls(
            PinOperation.VERIFY, timeout, form, minimum, maximum, ("current",), (0,), template
        )

    @classmethod
    def _modify(
        cls,
        timeout: int,
        form: PinFormat,
        minimum: int,
        maximum: int,
        confirm: int,
        offsets: tuple[int, int],
        template: bytes,
        longest: int = LONGEST_COMMAND,
    ) -> PinRequest:
        size = _check_template(template, longest)
        prompts: tuple[Prompt, ...] = ("new",)
        places: tuple[int, ...] = (offsets[1],)
        if confirm & 0x02:
            prompts, places = ("current", *prompts), (offsets[0], *places)
        if confirm & 0x01:
            prompts, places = (*prompts, "confirm"), (*places, offsets[1])
        # An offset that is not asked for may be anything.
        maximum = _check_digits(
            minimum, maximum, 0x11, min(form.room(place, size) for place in places)
        )
        return cls(PinOperation.MODIFY, timeout, form, minimum, maximum, prompts, places, template)

    def complete(self, pins: Sequence[str]) -> bytes | None:
        """The command with the PINs in it, one PIN for each prompt.

        Returns:
            The APDU, or None where the new PIN and its confirmation differ.
        """
        typed = dict(zip(self.prompts, pins, strict=True))
        if typed.get("confirm", typed.get("new")) != typed.get("new"):
            return None
        length = self.template[4] if len(self.template) > 4 else 0
        body = bytearray(self.template[5 : 5 + length])
        if not body:
            _grow(body, max(map(self.format.end_of_block, self.offsets)))
        for prompt, offset in zip(self.prompts, self.offsets, strict=True):
            if prompt != "confirm":
                self.format.insert(body, typed[prompt], offset)
        return self.template[:4] + bytes((len(body),)) + bytes(body) + self.template[5 + length :]


def _check_digits(minimum: int, maximum: int, offset: int, room: int) -> int:
    """wPINMaxExtraDigit, at `offset` in the message; returns the most digits that fit."""
    maximum = min(maximum, room)
    if maximum < max(minimum, 1):
        raise Refused(offset)
    return maximum


def _indices(messages: int, rest: bytes) -> int:
    """How many of bMsgIndex2 and 3 stand at the begin of `rest`, before the prologue (6.1.11.7).

    Raises:
        Refused: there is no such bNumberMessage, or the template tells nothing of the default's.
    """
    known = _INDICES.get(messages, ())
    for count in known:
        if _are_whole(rest[count : count + 3], rest[count + 3 :]):
            return count
    if not known or messages == _DEFAULT_MESSAGES:
        raise Refused(0x15)
    return known[0]


def _are_whole(prologue: bytes, template: bytes) -> bool:
    """Whether each begins where it should: a LEN, an INS and an Lc that fit what follows.

    What is read a byte too early has CLA for its INS, a byte too late P1: ISO/IEC 7816-4 has no
    INS below 04h.
    """
    if len(template) < _SHORTEST_APDU or template[1] < _LOWEST_INS:
        return False
    if prologue != bytes(3) and prologue[2] != len(template):
        return False
    data = len(template) - 5
    return data <= 0 or template[4] in (data, max(1, data - 1))  # the last byte may be Le


def _check_condition(condition: int, offset: int) -> None:
    """bEntryValidationCondition, at `offset` in the message: digits, key and time, or several.

    libccid sends 02h where a program has it wrong.
    """
    if not 1 <= condition <= 7:
        raise Refused(offset)


def _check_template(template: bytes, longest: int) -> int:
    """A short command; returns the bytes of data it may grow to, as a whole no longer than that."""
    behind = max(0, len(template) - 5 - template[4]) if len(template) > 5 else 0
    if len(template) > longest or behind > 1 or (behind and template[4] == 0):
        raise Refused(Error.BAD_LENGTH)
    return min(LONGEST_COMMAND - 6, longest - 5 - behind)


def _grow(body: bytearray, bits: int) -> None:
    """Fill up with FFh to at least so many bits."""
    body.extend(b"\xff" * ((bits + 7) // 8 - len(body)))


def _put(body: bytearray, position: int, width: int, value: int) -> None:
    """Overwrite `width` bits from bit `position` on, the first bit the highest of byte 0."""
    _grow(body, position + width)
    for bit in range(width):
        index, mask = (position + bit) // 8, 0x80 >> (position + bit) % 8
        body[index] = body[index] | mask if value >> (width - 1 - bit) & 1 else body[index] & ~mask
