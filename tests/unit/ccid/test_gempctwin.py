# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader at TPDU level that sets nothing by itself, as libccid drives a GemPC Twin."""

import pytest

from vccid import __version__
from vccid.ccid import gempctwin
from vccid.ccid.actions import AskPin, Transmit
from vccid.ccid.interface import Interface

from .host import T0_ATR, T1_ATR, Bench, message
from .test_pin_entry import TEMPLATE, VERIFY


def twin(atr: bytes = T0_ATR, *, pin_pad: bool = False) -> Bench:
    bench = Bench()
    bench.interface = Interface(gempctwin.descriptor(pin_pad=pin_pad), gempctwin.escape)
    bench.insert()
    bench.power_on(atr)
    return bench


def test_libccids_features() -> None:
    descriptor = gempctwin.descriptor()
    assert (descriptor.features, descriptor.max_message) == (0x00010230, 271)
    assert (descriptor.pin_support, gempctwin.descriptor(pin_pad=True).pin_support) == (0, 3)


@pytest.mark.parametrize(
    ("atr", "parameters"), [(T0_ATR, "1100000A00"), (T1_ATR, "1110004D002000")]
)
def test_without_setparameters_the_standards_values_hold(atr: bytes, parameters: str) -> None:
    answer = twin(atr).ask(message(0x6C, 0, 1))
    assert answer[10:] == bytes.fromhex(parameters)


def test_a_node_address_may_be_set() -> None:
    parameters = bytes.fromhex("1310004500FE12")
    answer = twin(T1_ATR).ask(message(0x61, 0, 1, "010000", parameters))
    assert (answer[7], answer[10:]) == (0, parameters)


@pytest.mark.parametrize("length", [1, 258, 259])
def test_a_block_of_any_length_goes_both_ways(length: int) -> None:
    bench = twin()
    action = bench.transmit(message(0x6F, 0, 1, data=bytes(length)))
    assert action.apdu == bytes(length)
    bench.interface.slots[0].answered(action.work, bytes(length))
    (answer,) = bench.fetch()
    assert answer[7:] == bytes(3) + bytes(length)


def test_longer_than_a_block() -> None:
    bench = twin()
    assert bench.ask(message(0x6F, 0, 1, data=bytes(262)))[7:9] == bytes.fromhex("40" "01")
    action = bench.transmit(message(0x6F, 0, 1, data=b"a"))
    bench.interface.slots[0].answered(action.work, bytes(260))
    assert bench.fetch()[0][7:9] == bytes.fromhex("40" "FC")


def test_t0_apdu_is_for_apdus() -> None:
    answer = twin().ask(message(0x6A, 0, 1))
    assert (answer[0], answer[7:9]) == (0x81, bytes.fromhex("40" "00"))


@pytest.mark.parametrize("level", ["000100", "000010"])
def test_nothing_is_chained(level: str) -> None:
    answer = twin().ask(message(0x6F, 0, 1, level, b"a"))
    assert answer[7:9] == bytes.fromhex("40" "08")


def test_escapes() -> None:
    bench = twin()
    firmware = bench.ask(message(0x6B, 0, 1, data=b"\x02"))
    assert (
        firmware
        == bytes.fromhex(
            "83"  # RDR_to_PC_Escape
            + len(f"vccid {__version__}").to_bytes(4, "little").hex()
            + "00"  # bSlot
            "01"  # bSeq
            "00"  # bStatus
            "00"  # bError
            "00"
        )
        + f"vccid {__version__}".encode("ascii")
    )
    # Card movements before an answer only; the strings of a display.
    for command in (b"\x01\x01\x01", b"\xb2\xa0\x00ML" + bytes(160)):
        assert bench.ask(message(0x6B, 0, 1, data=command))[7:] == bytes(3)
    # To APDU level, which libccid tries where its option says so; what nobody knows; nothing.
    for command in (b"\x1f\x02", b"\xff", b""):
        assert bench.ask(message(0x6B, 0, 1, data=command))[7:9] == bytes.fromhex("40" "00")


def test_escapes_work_without_a_card() -> None:
    bench = Bench()
    bench.interface = Interface(gempctwin.descriptor(), gempctwin.escape)
    assert bench.ask(message(0x6B, 0, 1, data=b"\x02"))[7] == 0x02


@pytest.mark.parametrize(
    ("atr", "sent"),
    [
        (T0_ATR, "00200000" "08" "313233343536FFFF"),
        (
            T1_ATR,
            "00"  # NAD
            "40"  # PCB: I-block, N(S) 1
            "0D"  # LEN
            "00200000" "08" "313233343536FFFF"
            "62",  # LRC
        ),
    ],
)  # fmt: skip
def test_a_typed_pin_goes_to_the_card_as_its_protocol_has_it(atr: bytes, sent: str) -> None:
    bench = twin(atr, pin_pad=True)
    prologue = bytes.fromhex("00" "40" "0D")  # fmt: skip
    verify = VERIFY[: -len(TEMPLATE) - 3] + prologue + TEMPLATE
    bench.send(message(0x69, 0, 1, data=verify))
    bench.interface.slots[0].typed(bench.work(AskPin), ["123456"])
    (action,) = bench.actions()
    assert isinstance(action, Transmit)
    assert action.apdu == bytes.fromhex(sent)


def test_a_typed_pin_is_no_longer_than_a_block_carries() -> None:
    bench = twin(T1_ATR, pin_pad=True)
    verify = VERIFY.replace(
        bytes.fromhex("08" "00" "0804"),  # a block of 8 bytes, 4 to 8 digits
        bytes.fromhex("00" "00" "FF04"),  # as long as the PIN, up to 255 digits
    )[: -len(TEMPLATE)]  # fmt: skip
    for size in (0x20, 0xFE):
        parameters = bytes.fromhex("13" "10" "00" "45" "00") + bytes((size, 0))
        bench.ask(message(0x61, 0, 1, "010000", parameters))
        bench.send(message(0x69, 0, 1, data=verify + bytes.fromhex("00200000")))
        (asked,) = bench.actions()
        assert isinstance(asked, AskPin)
        bench.interface.slots[0].typed(asked.work, ["1" * asked.request.maximum])
        (action,) = bench.actions()
        assert isinstance(action, Transmit)
        assert action.apdu[2] == size  # LEN
        bench.interface.slots[0].answered(action.work, b"")
        bench.fetch()
    # A template that is longer than that already.
    bench.ask(message(0x61, 0, 1, "010000", bytes.fromhex("13100045002000")))
    template = bytes.fromhex("00200000" "1C") + bytes(0x1C)  # fmt: skip
    answer = bench.ask(message(0x69, 0, 1, data=verify + template))
    assert answer[7:9] == bytes.fromhex("40" "01")
