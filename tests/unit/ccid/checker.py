# SPDX-License-Identifier: LGPL-2.1-or-later
"""A second reading of CCID rev 1.1: what each message must be answered with.

Written from the specification's tables, of the code under test it uses nothing. It says
for every command which response is due at once (type, bStatus, bError), and what is still
due when the card, the person or the other half of an abort has spoken.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

#: bMessageType of a command -> that of its response (6.2)
ANSWER = {
    0x61: 0x82, 0x62: 0x80, 0x63: 0x81, 0x65: 0x81, 0x69: 0x80, 0x6A: 0x81, 0x6B: 0x83,
    0x6C: 0x82, 0x6D: 0x82, 0x6E: 0x81, 0x6F: 0x80, 0x71: 0x81, 0x72: 0x81, 0x73: 0x84,
}  # fmt: skip
#: bMessageType -> the only dwLength it may have
FIXED = {0x62: 0, 0x63: 0, 0x65: 0, 0x6A: 0, 0x6C: 0, 0x6D: 0, 0x6E: 0, 0x71: 0, 0x72: 0, 0x73: 8}
NEEDS_POWER = {0x69, 0x6C, 0x6D, 0x61, 0x6F}
NEEDS_CARD = NEEDS_POWER | {0x62, 0x6A, 0x73}
LONGEST_APDU = 65544


@dataclass
class Due:
    """A response that must come: its first ten bytes, but for dwLength and byte 9."""

    kind: int
    seq: int
    status: int
    error: int
    length: int | None = None  # None: any

    def matches(self, raw: bytes) -> bool:
        kind, length, slot, seq, status, error, _ = struct.unpack("<BIBBBBB", raw[:10])
        return (
            (kind, slot, seq, status, error) == (self.kind, 0, self.seq, self.status, self.error)
            and length == len(raw) - 10
            and self.length in (None, length)
            and (self.status >> 6 != 1 or length == 0)
        )


class Checker:
    """One slot with a T=0 card, without PIN pad and clock stop."""

    def __init__(self, part: int) -> None:
        self.part = part  # bytes of data one message holds
        self.icc = 2
        self.running: tuple[str, int] | None = None  # what, and bSeq
        self.draining = False
        self.command: int | None = None  # bytes of a chained command so far
        self.rest = 0  # bytes of a response still to be fetched
        self.control: int | None = None
        self.bulk: int | None = None
        self.due: list[Due] = []

    # --- the host ------------------------------------------------------------------------

    def send(self, kind: int, seq: int, specific: bytes, data: bytes) -> None:
        answer = ANSWER.get(kind, 0x81)
        error = self._refusal(kind, specific, data)
        if kind == 0x72 and error is None:
            self._abort_bulk(seq)
        elif error is not None:
            self._fail(answer, seq, error)
        else:
            self._do(kind, answer, seq, specific, data)

    def _refusal(self, kind: int, specific: bytes, data: bytes) -> int | None:
        """bError by the order of the common checks; None where the command is carried out."""
        if kind != 0x72:
            if self.running is not None and not self.draining:
                return 0xE0
            if self.control is not None or self.bulk is not None:
                return 0xFF
        if kind in FIXED and len(data) != FIXED[kind]:
            return 0x01
        if kind == 0x61 and specific[0] in (0, 1) and len(data) != (5, 7)[specific[0]]:
            return 0x01
        if kind == 0x69 and not data:
            return 0x01
        if kind not in ANSWER or kind in (0x6B, 0x6E, 0x69):
            return 0x00
        if kind == 0x71:
            return 0x00 if 1 <= specific[0] <= 5 else 0x07
        if (kind in NEEDS_CARD and self.icc == 2) or (kind in NEEDS_POWER and self.icc == 1):
            return 0xFE
        return None

    def _do(self, kind: int, answer: int, seq: int, specific: bytes, data: bytes) -> None:
        if kind == 0x62:
            if specific[0] > 3:
                self._fail(answer, seq, 0x07)
                return
            self.running = ("power", seq)
            self.icc = 1
            self._forget()
        elif kind == 0x63:
            self.icc = max(self.icc, 1)
            self._forget()
            self._done(answer, seq, 0)
        elif kind == 0x6F:
            self._xfr(seq, int.from_bytes(specific[1:], "little"), data)
        elif kind == 0x61:
            self._set_parameters(seq, specific[0], data)
        elif kind == 0x6A and specific[0] > 3:
            self._fail(answer, seq, 0x07)
        else:
            self._done(answer, seq, {0x65: 0, 0x6A: 0, 0x6C: 5, 0x6D: 5, 0x73: 8}[kind])

    def _xfr(self, seq: int, level: int, data: bytes) -> None:
        if level == 0x10:
            if data:
                self._fail(0x80, seq, 0x01)
            elif not self.rest:
                self.command = None
                self._fail(0x80, seq, 0x08)
            else:
                part = min(self.part, self.rest)
                self.rest -= part
                self._done(0x80, seq, part)
            return
        opened, self.command, self.rest = self.command, None, 0
        if level > 3 or (level in (2, 3)) != (opened is not None):
            self._fail(0x80, seq, 0x08)
            return
        size = (opened or 0) + len(data)
        if size > LONGEST_APDU or (level in (0, 2) and size == 0):
            self._fail(0x80, seq, 0x01)
        elif level in (1, 3):
            self.command = size
            self._done(0x80, seq, 0)
        else:
            self.running = ("card", seq)

    def _set_parameters(self, seq: int, protocol: int, data: bytes) -> None:
        """6.1.7 for a card of T=0 only: the offset of the first field that is wrong."""
        if protocol != 0:
            self._fail(0x82, seq, 0x07)
            return
        fi, di = data[0] >> 4, data[0] & 0x0F
        if fi in (7, 8, 14, 15) or di in (0, 10, 11, 12, 13, 14, 15):
            self._fail(0x82, seq, 0x0A)
        elif data[1] not in (0, 2):
            self._fail(0x82, seq, 0x0B)
        elif data[3] == 0:
            self._fail(0x82, seq, 0x0D)
        elif data[4] > 3:
            self._fail(0x82, seq, 0x0E)
        else:
            self._done(0x82, seq, 5)

    # --- abort (5.3.1, 6.1.13) -----------------------------------------------------------

    def abort_control(self, seq: int) -> None:
        self._stop()
        self.control = seq
        if self.bulk is not None and self.bulk != seq:
            self._fail(0x81, self.bulk, 0xFF)
            self.bulk = None
        self._finish_abort()

    def _abort_bulk(self, seq: int) -> None:
        self._stop()
        if self.control not in (None, seq):
            self._fail(0x81, seq, 0xFF)
            return
        if self.bulk is not None:
            self._fail(0x81, self.bulk, 0xFF)
        self.bulk = seq
        self._finish_abort()

    def _stop(self) -> None:
        self._forget()
        if self.running is not None and self.running[0] == "card":
            self.draining = True  # a card's work cannot be stopped
        else:
            self.running = None

    def _finish_abort(self) -> None:
        if self.control is not None and self.control == self.bulk and not self.draining:
            self._done(0x81, self.control, 0)
            self.control = self.bulk = None

    # --- card and person -----------------------------------------------------------------

    def insert(self) -> None:
        self.icc = 1

    def remove(self) -> None:
        self.icc = 2
        self._forget()
        if self.running is not None and not self.draining:
            self._fail(0x80, self.running[1], 0xFE)
        self.running, self.draining = None, False
        self._finish_abort()

    def powered(self, atr: int) -> None:
        assert self.running is not None
        seq, self.running, self.icc = self.running[1], None, 0
        self._done(0x80, seq, atr)

    def answered(self, size: int) -> None:
        assert self.running is not None
        seq, drained = self.running[1], self.draining
        self.running, self.draining = None, False
        if drained:
            self._finish_abort()
            return
        self.rest = max(0, size - self.part)
        self._done(0x80, seq, min(size, self.part))

    def failed(self, error: int) -> None:
        assert self.running is not None
        seq, drained = self.running[1], self.draining
        self.running, self.draining, self.icc = None, False, 1
        self._forget()
        if not drained:
            self._fail(0x80, seq, error)
        self._finish_abort()

    def extend(self) -> None:
        if self.running is not None and self.running[0] == "card" and not self.draining:
            self.due.append(Due(0x80, self.running[1], 0x80, 1, 0))

    def reset(self) -> None:
        if self.icc != 2:
            self.icc = 1
        self._forget()
        self.running, self.draining, self.control, self.bulk = None, False, None, None

    def _forget(self) -> None:
        self.command, self.rest = None, 0

    def _done(self, kind: int, seq: int, length: int) -> None:
        self.due.append(Due(kind, seq, self.icc, 0, length))

    def _fail(self, kind: int, seq: int, error: int) -> None:
        self.due.append(Due(kind, seq, 0x40 | self.icc, error, 0))
