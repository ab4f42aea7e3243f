# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader as programs share it."""

from __future__ import annotations

import pytest

from vccid.frontends.pcsc.machines import MARKS, POWER, SAYS, WAITS, Mark, MarkEvent, PowerEvent
from vccid.frontends.pcsc.slot import Handle, Slot, mode_refusal, offered_protocols
from vccid.wire.pcsclite import Begin, Disconnect, End, Protocols, Rv, Share, Status, Transmit

T0, T1, RAW, T15 = 1, 2, 4, 8
BOTH = T0 | T1


@pytest.mark.parametrize(
    ("atr", "offered"),
    [
        ("3B 00", T0),
        ("3B 7A 18 00 00 73 66 74 65 2D 63 64 31 34 34", T0),
        ("3B F7 13 00 00 81 31 FE 45 80 31 C1 73 C0 21 C0 CD", T1),
        ("3B 80 80 01 01", BOTH),
        ("3B 80 01", T1),
        ("3B 80 00", T0),
        ("3B 80 0F", 0),
        ("3B 80 0E", 0),
        ("3B 80 90 01 00", T1),  # TA2: T=1 in specific mode
        ("3B 80 90 00 01", T0),
        ("3B 80 81 1F 00", T1),  # TD2 names 15, whose bytes are global
        ("3F 00", T0),
        ("3C 00", 0),
        ("3B", 0),
        ("", 0),
        ("3B F0", T0),  # cut short
    ],
)
def test_what_an_atr_offers(atr: str, offered: int) -> None:
    assert offered_protocols(bytes.fromhex(atr)) == offered


@pytest.mark.parametrize(
    ("preferred", "chosen", "rv"),
    [
        (BOTH, T1, None),
        (T0, T0, None),
        (T1, T1, None),
        (Protocols.ANY_OLD, T1, None),
        (T15, 0, Rv.E_PROTO_MISMATCH),
    ],
)
def test_which_protocol_is_chosen(preferred: int, chosen: int, rv: Rv | None) -> None:
    slot, handle = Slot(b"r"), Handle(1)
    slot.inserted(bytes.fromhex("3B 80 80 01 01"))
    assert slot.choose(handle, preferred, direct=False) == rv
    assert slot.protocol == chosen


def test_the_first_program_binds_the_later_ones_until_the_power_goes() -> None:
    slot = Slot(b"r")
    slot.inserted(bytes.fromhex("3B 80 80 01 01"))
    slot.powered(slot.atr)
    assert slot.choose(Handle(1), T0, direct=False) is None
    assert slot.choose(Handle(2), T1, direct=False) == Rv.E_PROTO_MISMATCH
    slot.unpowered(PowerEvent.UNUSED)
    assert slot.choose(Handle(2), T1, direct=False) is None


def test_raw_is_the_affair_of_one_handle() -> None:
    slot, raw, other = Slot(b"r"), Handle(1), Handle(2)
    slot.inserted(bytes.fromhex("3B 00"))
    assert slot.choose(raw, RAW, direct=True) is None
    assert slot.active_protocol(raw) == RAW and slot.entry(raw=True).protocol == RAW
    assert slot.choose(other, BOTH, direct=False) is None
    assert slot.active_protocol(other) == T0 and slot.entry().protocol == T0


@pytest.mark.parametrize(
    ("mode", "protocols", "rv"),
    [
        (Share.SHARED, BOTH, None),
        (Share.DIRECT, 0, None),
        (Share.SHARED, 0, Rv.E_PROTO_MISMATCH),
        (Share.EXCLUSIVE, T15, Rv.E_PROTO_MISMATCH),
        (0, 0, Rv.E_PROTO_MISMATCH),
        (0, BOTH, Rv.E_INVALID_VALUE),
        (4, BOTH, Rv.E_INVALID_VALUE),
    ],
)
def test_share_modes_and_protocols_there_are(mode: int, protocols: int, rv: Rv | None) -> None:
    assert mode_refusal(mode, protocols) == rv


def transmit(protocol: int) -> Transmit:
    return Transmit(1, protocol, 16, 0, 3, 16, 258, 0)


def test_which_of_two_reasons_is_told() -> None:
    slot, mine, other = Slot(b"r"), Handle(1), Handle(2)
    slot.inserted(bytes.fromhex("3B 00"))
    for handle in (mine, other):
        assert slot.share(handle, Share.SHARED) is None
    slot.tell(MarkEvent.RESET, but=other)
    slot.lock.begin(other)
    assert slot.refusal(Begin(1, 0), mine) == Rv.W_RESET_CARD
    assert slot.refusal(End(1, 1, 0), mine) == Rv.W_RESET_CARD
    assert slot.refusal(Status(1, 0), mine) == Rv.E_SHARING_VIOLATION
    assert slot.refusal(transmit(T0), mine) == Rv.E_SHARING_VIOLATION
    assert slot.refusal(Disconnect(1, 0, 0), mine) is None
    assert slot.refusal(Disconnect(1, 1, 0), mine) == Rv.E_SHARING_VIOLATION
    assert slot.refusal(Disconnect(1, 4, 0), mine) == Rv.E_INVALID_VALUE
    slot.lock.end(other)
    assert slot.refusal(transmit(T0), mine) == Rv.W_RESET_CARD
    slot.removed()
    assert slot.refusal(transmit(T0), other) == Rv.W_REMOVED_CARD
    other.mark = MARKS.initial
    assert slot.refusal(transmit(T0), other) == Rv.E_NO_SMARTCARD
    other.mark = Mark.GONE
    assert slot.refusal(Status(1, 0), other) == Rv.E_INVALID_VALUE


@pytest.mark.parametrize(
    ("protocol", "rv"),
    [(T0, None), (T1, Rv.E_PROTO_MISMATCH), (0, Rv.E_PROTO_MISMATCH), (RAW, None), (0x1000, None)],
)
def test_an_apdu_names_the_cards_protocol(protocol: int, rv: Rv | None) -> None:
    slot, handle = Slot(b"r"), Handle(1)
    slot.inserted(bytes.fromhex("3B 00"))
    assert slot.choose(handle, BOTH, direct=False) is None
    assert slot.share(handle, Share.SHARED) is None
    assert slot.refusal(transmit(protocol), handle) == rv
    assert slot.is_free_for(handle, protocol) == (protocol == T0)


def test_exclusive_is_alone_and_ends_with_another_mode() -> None:
    slot, first, second = Slot(b"r"), Handle(1), Handle(2)
    assert slot.share(first, Share.EXCLUSIVE) is None
    assert slot.sharing == -1
    assert slot.share(second, Share.SHARED) == Rv.E_SHARING_VIOLATION
    assert slot.share(first, Share.SHARED) is None
    assert slot.sharing == 1
    assert slot.share(second, Share.DIRECT) is None
    assert slot.sharing == 2
    assert slot.share(first, Share.EXCLUSIVE) == Rv.E_SHARING_VIOLATION


def test_the_counter_of_comings_and_goings_is_never_0() -> None:
    slot = Slot(b"r")
    assert slot.entry().counter == 1
    seen = set()
    for _ in range(0x8000):
        slot.inserted(b"\x3b\x00")
        slot.removed()
        seen.add(slot.entry().counter)
    assert 0 not in seen and max(seen) <= 0xFFFF


def test_every_wait_ends_with_one_signal_or_one_answer() -> None:
    """However the messages fall; an ARRAY_SENT is what a program of 4:6 cannot leave out."""
    initial = WAITS.initial
    todo, seen = [(initial, 0)], set()
    while todo:
        state, owed = todo.pop()
        if (state, owed) in seen:
            continue
        seen.add((state, owed))
        assert owed == (state is not initial)
        for event in WAITS.transitions[state]:
            again = event.name.startswith("WAIT") and owed
            after = WAITS.after(state, event)
            if again:
                continue  # a second WAIT before the end of the first: no library does so
            said = (state, event) in SAYS
            todo.append((after, owed + event.name.startswith("WAIT") - said))


def test_power_is_told_of_every_event_that_can_come() -> None:
    for state, moves in POWER.transitions.items():
        missing = set(PowerEvent) - set(moves)
        expected = {PowerEvent.REMOVED, PowerEvent.POWERED}
        assert missing == (expected if state is POWER.initial else {PowerEvent.INSERTED})
