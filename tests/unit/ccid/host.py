# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host and an owner for the CCID interface, driven from plain bytes."""

from __future__ import annotations

import struct

from vccid.ccid.actions import Action, AskPin, PowerOn, Transmit
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.interface import Interface

T0_ATR = bytes.fromhex("3B7A18000073667465206364313434")
T1_ATR = bytes.fromhex("3BF71300008131FE458031C173C021C0CD")


def message(kind: int, slot: int, seq: int, specific: str = "000000", data: bytes = b"") -> bytes:
    """A command as any host writes it: the header by its own struct, not by the code's."""
    return struct.pack("<BIBB", kind, len(data), slot, seq) + bytes.fromhex(specific) + data


SELECT = bytes.fromhex("00A4040000")
XFR = message(0x6F, 0, 1, data=SELECT)


def status(raw: bytes) -> tuple[int, int, int]:
    """bMessageType, bStatus, bError."""
    return raw[0], raw[7], raw[8]


class Bench:
    """One interface with its host's and its owner's hands on it."""

    def __init__(self, descriptor: ClassDescriptor | None = None) -> None:
        self.interface = Interface(descriptor or ClassDescriptor.for_reader())
        self.stamp = 0
        self.seq = 0

    def send(self, raw: bytes) -> None:
        assert self.interface.bulk_out(raw, ends=True)

    def ask(self, raw: bytes) -> bytes:
        """Send a command that is answered at once."""
        self.send(raw)
        answer = self.interface.next_response()
        assert answer is not None
        return answer

    def fetch(self) -> list[bytes]:
        return list(iter(self.interface.next_response, None))

    def notification(self) -> bytes | None:
        interface = self.interface
        return interface.next_notification() if interface.outbox.changed else None

    def actions(self) -> list[Action]:
        return self.interface.take_actions()

    def insert(self, slot: int = 0) -> None:
        self.stamp += 1
        self.interface.slots[slot].insert(self.stamp)

    def remove(self, slot: int = 0) -> None:
        self.stamp += 1
        self.interface.slots[slot].remove(self.stamp)

    def power_on(self, atr: bytes = T0_ATR, slot: int = 0) -> bytes:
        self.send(message(0x62, slot, 0xF0))
        work = self.work(PowerOn)
        self.interface.slots[slot].powered(work, atr)
        (answer,) = self.fetch()
        self.actions()
        return answer

    def transmit(self, raw: bytes) -> Transmit:
        """Send a command that must reach the card."""
        self.send(raw)
        action = self.actions()[-1]
        assert isinstance(action, Transmit)
        return action

    def work(self, kind: type[PowerOn | Transmit | AskPin]) -> int:
        action = self.actions()[-1]
        assert isinstance(action, kind)
        return action.work


def powered(descriptor: ClassDescriptor | None = None, atr: bytes = T0_ATR) -> Bench:
    """A bench with an active card whose insertion the host has seen."""
    bench = Bench(descriptor)
    bench.insert()
    bench.power_on(atr)
    bench.notification()
    return bench
