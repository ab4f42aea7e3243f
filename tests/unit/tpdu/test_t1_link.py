# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card's end of T=1, block by block (ISO/IEC 7816-3:2006, 11.6)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tpdu.t1_host import Host, lrc_block
from vccid.errors import LocalProtocolError
from vccid.iso7816 import status
from vccid.iso7816.t1_blocks import Edc
from vccid.tpdu.t1_link import Execute, GoOn, Link

SELECT = bytes.fromhex("00A4040000")
OK = status.SUCCESS


@pytest.fixture
def link() -> Link:
    return Link(ifsc=254)


def i_block(number: int, information: bytes, more: bool = False) -> bytes:
    return lrc_block(number << 6 | more << 5, information)


def r_block(number: int, error: int = 0) -> bytes:
    return lrc_block(0x80 | number << 4 | error)


def test_a_command_and_its_answer(link: Link) -> None:
    assert link.receive(i_block(0, SELECT)) == Execute(SELECT)
    assert link.running
    assert link.respond(OK) == i_block(0, OK)
    assert not link.running
    assert link.receive(i_block(1, SELECT)) == Execute(SELECT)
    assert link.respond(OK) == i_block(1, OK)
    assert link.receive(i_block(0, SELECT)) == Execute(SELECT)


def test_a_chained_command(link: Link) -> None:
    assert link.receive(i_block(0, b"ab", more=True)) == r_block(1)
    assert link.receive(i_block(1, b"cd", more=True)) == r_block(0)
    assert link.receive(i_block(0, b"e")) == Execute(b"abcde")


def test_a_chained_answer_in_the_hosts_size(link: Link) -> None:
    assert link.receive(lrc_block(0xC1, b"\x03")) == lrc_block(0xE1, b"\x03")
    link.receive(i_block(0, SELECT))
    assert link.respond(b"abcdefg") == i_block(0, b"abc", more=True)
    assert link.receive(r_block(1)) == i_block(1, b"def", more=True)
    assert link.receive(r_block(0)) == i_block(0, b"g")


def test_without_s_ifs_the_hosts_size_is_32(link: Link) -> None:
    link.receive(i_block(0, SELECT))
    assert link.respond(bytes(33)) == i_block(0, bytes(32), more=True)


@pytest.mark.parametrize("size", [0, 255])
def test_a_size_that_is_none(link: Link, size: int) -> None:
    assert link.receive(lrc_block(0xC1, bytes((size,)))) == r_block(0, 2)


def test_a_damaged_block_is_asked_for_again(link: Link) -> None:
    assert link.receive(i_block(0, SELECT)[:-1] + b"\0") == r_block(0, 1)
    assert link.receive(i_block(0, SELECT)) == Execute(SELECT)
    link.respond(OK)
    assert link.receive(b"") == r_block(1, 1)


def test_a_block_out_of_turn(link: Link) -> None:
    assert link.receive(i_block(1, SELECT)) == r_block(0, 2)


def test_more_than_the_card_takes() -> None:
    assert Link(ifsc=4).receive(i_block(0, SELECT)) == r_block(0, 2)


def test_an_answer_that_did_not_arrive_is_sent_again(link: Link) -> None:
    link.receive(i_block(0, SELECT))
    link.respond(OK)
    assert link.receive(r_block(0, 1)) == i_block(0, OK)
    assert link.receive(r_block(1)) == r_block(1, 2), "there is no more of it"


def test_an_acknowledgement_that_did_not_arrive_is_sent_again(link: Link) -> None:
    assert link.receive(i_block(0, b"a", more=True)) == r_block(1)
    assert link.receive(r_block(0, 1)) == r_block(1)
    # Rule 7.2: an invalid block after an R-block.
    assert link.receive(b"\xff\xff\xff\xff") == r_block(1)
    assert link.receive(i_block(1, b"b")) == Execute(b"ab")


def test_an_r_block_first_of_all(link: Link) -> None:
    assert link.receive(r_block(0)) == r_block(0, 2)


def test_an_i_block_does_not_cut_a_chained_answer_short(link: Link) -> None:
    link.receive(i_block(0, SELECT))
    link.respond(bytes(40))
    assert link.receive(i_block(1, SELECT)) == r_block(1, 2)
    assert link.receive(r_block(1)) == i_block(1, bytes(8))


def test_more_time(link: Link) -> None:
    link.receive(i_block(0, SELECT))
    wtx = lrc_block(0xC3, b"\x01")
    assert link.extend() == wtx
    # Rule 7.3: nothing but its response ends S(WTX request).
    for wrong in (b"\0", r_block(0), i_block(1, SELECT), lrc_block(0xE3, b"\x02")):
        assert link.receive(wrong) == wtx
    assert link.receive(lrc_block(0xE3, b"\x01")) == GoOn()
    assert link.extend() == wtx
    assert link.receive(lrc_block(0xE3, b"\x01")) == GoOn()
    assert link.respond(OK) == i_block(0, OK)


def test_s_blocks_out_of_turn(link: Link) -> None:
    for pcb, information in ((0xE0, b""), (0xE1, b"\x20"), (0xE3, b"\x01"), (0xC3, b"\x01")):
        assert link.receive(lrc_block(pcb, information)) == r_block(0, 2)


def test_resynch_begins_anew(link: Link) -> None:
    link.receive(lrc_block(0xC1, b"\xfe"))
    link.receive(i_block(0, SELECT))
    link.respond(OK)
    link.receive(i_block(1, b"half", more=True))
    assert link.receive(lrc_block(0xC0)) == lrc_block(0xE0)
    assert link.receive(i_block(0, SELECT)) == Execute(SELECT)
    assert link.respond(bytes(33)) == i_block(0, bytes(32), more=True)


def test_resynch_gives_a_running_command_up(link: Link) -> None:
    link.receive(i_block(0, SELECT))
    link.extend()
    assert link.receive(lrc_block(0xC0)) == lrc_block(0xE0)
    assert not link.running


def test_abort_drops_a_chain(link: Link) -> None:
    link.receive(i_block(0, b"half", more=True))
    assert link.receive(lrc_block(0xC2)) == lrc_block(0xE2)
    assert link.receive(i_block(1, SELECT)) == Execute(SELECT)
    link.respond(bytes(40))
    assert link.receive(lrc_block(0xC2)) == lrc_block(0xE2)
    assert link.receive(i_block(0, SELECT)) == Execute(SELECT)


def test_the_node_address_is_turned_round(link: Link) -> None:
    answer = link.receive(bytes.fromhex("12" "C0" "00" "D2"))  # fmt: skip
    assert answer == bytes.fromhex("21" "E0" "00" "C1")  # fmt: skip


def test_a_crc() -> None:
    link = Link(254, Edc.CRC)
    assert link.receive(bytes.fromhex("00" "C1" "01" "FE" "544E")) == bytes.fromhex(
        "00" "E1" "01" "FE" "5775"
    )  # fmt: skip


def test_a_command_longer_than_any_is_a_wrong_length(link: Link) -> None:
    link.receive(lrc_block(0xC1, b"\xfe"))
    number = 0
    for _ in range(65_544 // 254 + 1):
        assert link.receive(i_block(number, bytes(254), more=True)) == r_block(number ^ 1)
        number ^= 1
    assert link.receive(i_block(number, b"x")) == i_block(0, status.WRONG_LENGTH)


def test_only_what_was_asked_is_answered(link: Link) -> None:
    with pytest.raises(LocalProtocolError):
        link.respond(OK)
    with pytest.raises(LocalProtocolError):
        link.extend()


@settings(deadline=None)
@given(
    commands=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4),
    answers=st.integers(0, 80),
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    damage=st.lists(st.booleans(), max_size=60),
    slow=st.booleans(),
)
def test_on_a_line_that_damages_blocks_each_command_is_executed_once(
    commands: list[bytes], answers: int, sizes: tuple[int, int], damage: list[bool], slow: bool
) -> None:
    link = Link(ifsc=sizes[0])
    executed: list[bytes] = []

    def answer() -> bytes:
        return bytes((len(executed),)) * answers + OK

    def noisy(block: bytes) -> bytes:
        return block[:-1] + bytes((block[-1] ^ 0x55,)) if damage and damage.pop() else block

    def card(block: bytes) -> bytes:
        step = link.receive(noisy(block))
        if isinstance(step, Execute):
            executed.append(step.command)
            step = link.extend() if slow else link.respond(answer())
        elif isinstance(step, GoOn):
            step = link.respond(answer())
        return noisy(step)

    host = Host(card, ifsc=sizes[0])
    host.ask_ifsd(sizes[1])
    for number, command in enumerate(commands, 1):
        assert host.command(command) == bytes((number,)) * answers + OK
    assert executed == commands
