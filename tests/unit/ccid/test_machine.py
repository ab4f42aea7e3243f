# SPDX-License-Identifier: LGPL-2.1-or-later
"""The slot beside a second reading of the specification, through any sequence of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vccid.ccid.actions import PowerOn, Transmit
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import Error

from .checker import ANSWER, Checker
from .host import T0_ATR, Bench, message

PART = 20
KINDS = st.sampled_from([*ANSWER, 0x62, 0x6F, 0x6F, 0x60, 0xFF])
SEQS = st.integers(0, 3)
LEVELS = st.sampled_from([0, 0, 0, 1, 2, 3, 0x10, 4, 0x100])
#: What ends everything is tried less often, or little else would be seen.
RARELY = st.sampled_from([False] * 7 + [True])
DATA = st.one_of(st.just(b""), st.binary(max_size=PART))


class SlotBesideChecker(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(ClassDescriptor.for_reader(max_message=10 + PART))
        self.checker = Checker(PART)
        self.work = 0
        self.present = False

    def collect(self) -> None:
        """Take what the machine wants done, and compare what it says."""
        for action in self.bench.actions():
            if isinstance(action, PowerOn | Transmit):
                self.work = action.work
        answers = self.bench.fetch()
        due, self.checker.due = self.checker.due, []
        assert len(answers) == len(due), ([raw.hex() for raw in answers], due)
        for raw, expected in zip(answers, due, strict=True):
            assert expected.matches(raw), (raw.hex(), expected)
        self.bench.notification()
        self.bench.actions()

    @rule(
        kind=KINDS,
        seq=SEQS,
        specific=st.binary(min_size=3, max_size=3),
        data=DATA,
        really=RARELY,
    )
    def any_command(self, kind: int, seq: int, specific: bytes, data: bytes, really: bool) -> None:
        if really or kind not in (0x62, 0x63, 0x72):
            self.command(kind, seq, specific, data)

    def command(self, kind: int, seq: int, specific: bytes, data: bytes) -> None:
        self.bench.send(message(kind, 0, seq, specific.hex(), data))
        self.checker.send(kind, seq, specific, data)
        self.collect()

    @rule(kind=st.sampled_from([0x62, 0x63, 0x6C, 0x6D, 0x6A, 0x71, 0x72]), seq=SEQS, really=RARELY)
    def plain_command(self, kind: int, seq: int, really: bool) -> None:
        if really or kind not in (0x62, 0x63, 0x72):
            self.command(kind, seq, b"\0\0\0", b"")

    @rule(seq=SEQS, level=LEVELS, data=DATA)
    def xfr_block(self, seq: int, level: int, data: bytes) -> None:
        self.command(0x6F, seq, b"\0" + level.to_bytes(2, "little"), data)

    @precondition(lambda self: self.checker.icc == 0 and self.checker.running is None)
    @rule(seq=SEQS, data=st.binary(min_size=1, max_size=PART))
    def whole_apdu(self, seq: int, data: bytes) -> None:
        self.command(0x6F, seq, b"\0\0\0", data)

    @rule(seq=SEQS, data=st.binary(min_size=5, max_size=5))
    def set_parameters(self, seq: int, data: bytes) -> None:
        self.command(0x61, seq, b"\0\0\0", data)

    @rule(seq=SEQS, really=RARELY)
    def control_abort(self, seq: int, really: bool) -> None:
        if really:
            self.abort(seq)

    @precondition(lambda self: self.checker.running is not None)
    @rule(seq=SEQS)
    def abort_what_runs(self, seq: int) -> None:
        self.abort(seq)

    def abort(self, seq: int) -> None:
        assert self.bench.interface.abort(0, seq)
        self.checker.abort_control(seq)
        self.collect()

    @precondition(lambda self: self.checker.control is not None or self.checker.bulk is not None)
    @rule()
    def other_half(self) -> None:
        """Most hosts do end what they began."""
        if self.checker.bulk is None:
            self.command(0x72, self.checker.control or 0, b"\0\0\0", b"")
        else:
            self.abort(self.checker.bulk)

    @precondition(lambda self: self.checker.control is not None)
    @rule(seq=SEQS)
    def some_half(self, seq: int) -> None:
        self.command(0x72, seq, b"\0\0\0", b"")

    @precondition(lambda self: self.checker.icc != 0 and self.checker.running is None)
    @rule(seq=SEQS)
    def power_on(self, seq: int) -> None:
        """Most of what there is to see needs a powered card."""
        if not self.present:
            self.insert_or_remove()
        self.command(0x62, seq, b"\0\0\0", b"")
        if self.checker.running is not None:
            self.result(2)

    @precondition(lambda self: self.checker.rest)
    @rule(seq=SEQS)
    def next_part(self, seq: int) -> None:
        self.command(0x6F, seq, b"\0\x10\0", b"")

    @rule(really=RARELY)
    def card_moves(self, really: bool) -> None:
        if really:
            self.insert_or_remove()

    def insert_or_remove(self) -> None:
        if self.present:
            self.bench.remove()
            self.checker.remove()
        else:
            self.bench.insert()
            self.checker.insert()
        self.present = not self.present
        self.collect()

    @precondition(lambda self: self.checker.running is not None)
    @rule(size=st.integers(2, 3 * PART))
    def result(self, size: int) -> None:
        assert self.checker.running is not None
        if self.checker.running[0] == "power":
            self.bench.interface.slots[0].powered(self.work, T0_ATR)
            self.checker.powered(len(T0_ATR))
        else:
            self.bench.interface.slots[0].answered(self.work, bytes(size))
            self.checker.answered(size)
        self.collect()

    @precondition(lambda self: self.checker.running is not None)
    @rule(error=st.sampled_from([Error.ICC_MUTE, Error.HW_ERROR]))
    def failure(self, error: Error) -> None:
        self.bench.interface.slots[0].failed(self.work, error)
        self.checker.failed(error)
        self.collect()

    @rule(stale=st.integers(1, 5))
    def late_result(self, stale: int) -> None:
        """A result of work that was given up, or of none."""
        if self.checker.running is None:
            self.bench.interface.slots[0].answered(self.work, b"\x90\x00")
        self.bench.interface.slots[0].answered(self.work - stale, b"\x90\x00")
        self.bench.interface.slots[0].failed(self.work - stale, Error.HW_ERROR)
        self.collect()

    @rule()
    def second_passes(self) -> None:
        self.bench.interface.slots[0].work.extend()
        self.checker.extend()
        self.collect()

    @rule(really=RARELY)
    def usb_reset(self, really: bool) -> None:
        if not really:
            return
        self.bench.interface.reset()
        self.checker.reset()
        self.collect()

    @invariant()
    def status_is_told(self) -> None:
        self.command(0x65, 9, b"\0\0\0", b"")


SlotBesideChecker.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestSlotBesideChecker = SlotBesideChecker.TestCase
