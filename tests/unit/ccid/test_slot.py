# SPDX-License-Identifier: LGPL-2.1-or-later
"""The slot, command by command (CCID rev 1.1, 5.3, 6): bytes in, bytes and actions out."""

import pytest

from vccid.ccid.actions import Noticed, PowerOff, PowerOn
from vccid.ccid.class_descriptor import ClassDescriptor
from vccid.ccid.codes import Error

from .host import SELECT, T0_ATR, T1_ATR, XFR, Bench, message, powered, status
from .test_pin_entry import VERIFY


def test_power_on_gives_the_atr() -> None:
    bench = Bench()
    bench.insert()
    assert bench.power_on() == bytes.fromhex(
        "80"  # bMessageType
        "0F000000"  # dwLength
        "00"  # bSlot
        "F0"  # bSeq
        "00"  # bStatus: active
        "00"  # bError
        "00"  # bChainParameter
    ) + T0_ATR  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (message(0x62, 0, 7), "80" "00000000" "00" "07" "42" "FE" "00"),
        (message(0x63, 0, 7), "81" "00000000" "00" "07" "02" "00" "01"),
        (message(0x65, 0, 7), "81" "00000000" "00" "07" "02" "00" "01"),
        (message(0x6F, 0, 7, data=SELECT), "80" "00000000" "00" "07" "42" "FE" "00"),
        (message(0x6C, 0, 7), "82" "00000000" "00" "07" "42" "FE" "00"),
        (message(0x6D, 0, 7), "82" "00000000" "00" "07" "42" "FE" "00"),
        (message(0x61, 0, 7, data=bytes(5)), "82" "00000000" "00" "07" "42" "FE" "00"),
        (message(0x6B, 0, 7), "83" "00000000" "00" "07" "42" "00" "00"),
        (message(0x6E, 0, 7), "81" "00000000" "00" "07" "42" "00" "01"),
        (message(0x6A, 0, 7), "81" "00000000" "00" "07" "42" "FE" "01"),
        (message(0x69, 0, 7, data=VERIFY), "80" "00000000" "00" "07" "42" "00" "00"),
        (message(0x71, 0, 7, "020000"), "81" "00000000" "00" "07" "42" "00" "01"),
        (message(0x71, 0, 7, "060000"), "81" "00000000" "00" "07" "42" "07" "01"),
        (message(0x73, 0, 7, data=bytes(8)), "84" "00000000" "00" "07" "42" "FE" "00"),
        (message(0x60, 0, 7), "81" "00000000" "00" "07" "42" "00" "01"),
        (message(0x65, 0, 7, data=b"x"), "81" "00000000" "00" "07" "42" "01" "01"),
        (message(0x65, 1, 7), "81" "00000000" "01" "07" "42" "05" "00"),
        (message(0x6F, 9, 7, data=b"x"), "80" "00000000" "09" "07" "42" "05" "00"),
    ],
)
def test_an_empty_slot(raw: bytes, answer: str) -> None:
    assert Bench().ask(raw).hex() == bytes.fromhex(answer).hex()


def test_a_card_without_power() -> None:
    bench = Bench()
    bench.insert()
    assert status(bench.ask(message(0x65, 0, 1))) == (0x81, 0x01, 0x00)
    assert status(bench.ask(XFR)) == (0x80, 0x41, 0xFE)
    assert status(bench.ask(message(0x6C, 0, 1))) == (0x82, 0x41, 0xFE)
    assert bench.actions()[0] == Noticed(0, 1)


def test_xfr_block_and_its_answer() -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    assert action.apdu == SELECT
    bench.interface.slots[0].answered(action.work, b"\x6a\x82")
    assert (
        bench.fetch()
        == [
            bytes.fromhex(
                "80"  # bMessageType
                "02000000"  # dwLength
                "00"  # bSlot
                "05"  # bSeq
                "00"  # bStatus
                "00"  # bError
                "00"  # bChainParameter: whole
                "6A82"
            )
        ]
    )


def test_one_command_at_a_time() -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    assert bench.ask(message(0x65, 0, 6)) == bytes.fromhex("81" "00000000" "00" "06" "40" "E0" "00")
    assert status(bench.ask(message(0x6F, 0, 7, data=SELECT))) == (0x80, 0x40, 0xE0)
    assert status(bench.ask(message(0x6B, 0, 8))) == (0x83, 0x40, 0xE0)
    bench.interface.slots[0].answered(action.work, b"\x90\x00")
    (answer,) = bench.fetch()
    assert answer[6] == 5


def test_time_extensions_only_while_the_card_works() -> None:
    bench = powered()
    bench.interface.slots[0].work.extend()
    assert bench.fetch() == []
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    bench.interface.slots[0].work.extend()
    bench.interface.slots[0].work.extend()
    extension = bytes.fromhex("80" "00000000" "00" "05" "80" "01" "00")
    assert bench.fetch() == [extension]
    bench.interface.slots[0].work.extend()
    bench.interface.slots[0].answered(action.work, b"\x90\x00")
    assert [raw[7] for raw in bench.fetch()] == [0x80, 0x00]


def test_no_time_extension_for_power_on() -> None:
    bench = Bench()
    bench.insert()
    bench.send(message(0x62, 0, 1))
    bench.interface.slots[0].work.extend()
    assert bench.fetch() == []
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x41, 0xE0)


def test_warm_reset_and_power_off() -> None:
    bench = powered()
    bench.ask(message(0x61, 0, 1, data=bytes.fromhex("9400001400")))
    bench.send(message(0x62, 0, 2))
    (action,) = bench.actions()
    assert isinstance(action, PowerOn)
    bench.interface.slots[0].powered(action.work, T0_ATR)
    bench.fetch()
    assert bench.ask(message(0x6C, 0, 3))[10:].hex() == "1800000a00"
    assert bench.ask(message(0x63, 0, 4)) == bytes.fromhex("81" "00000000" "00" "04" "01" "00" "01")
    assert bench.actions() == [PowerOff(0)]


@pytest.mark.parametrize(("error", "expected"), [(Error.ICC_MUTE, 0xFE), (Error.HW_ERROR, 0xFB)])
def test_a_mute_card(error: Error, expected: int) -> None:
    bench = Bench()
    bench.insert()
    bench.send(message(0x62, 0, 1))
    bench.interface.slots[0].failed(bench.work(PowerOn), error)
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x41, expected)]


@pytest.mark.parametrize(("atr", "error"), [("00", 0xF8), ("3B8001", 0xF7), ("3B800E8E", 0xF6)])
def test_an_atr_that_is_of_no_use(atr: str, error: int) -> None:
    bench = Bench()
    bench.insert()
    bench.send(message(0x62, 0, 1))
    bench.interface.slots[0].powered(bench.work(PowerOn), bytes.fromhex(atr))
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x41, error)]
    assert PowerOff(0) in bench.actions()


def test_voltage() -> None:
    bench = Bench()
    bench.insert()
    assert status(bench.ask(message(0x62, 0, 1, "040000"))) == (0x80, 0x41, 0x07)
    bench.send(message(0x62, 0, 1, "030000"))
    assert bench.work(PowerOn)


def test_a_card_that_dies_loses_its_power() -> None:
    bench = powered()
    action = bench.transmit(XFR)
    bench.interface.slots[0].failed(action.work, Error.HW_ERROR)
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x41, 0xFB)]
    assert bench.actions() == [PowerOff(0)]


def test_removal_ends_a_running_command_then_notifies() -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    bench.remove()
    assert bench.fetch() == [bytes.fromhex("80" "00000000" "00" "05" "42" "FE" "00")]
    assert bench.notification() == bytes.fromhex("50" "02")
    bench.interface.slots[0].answered(action.work, b"\x90\x00")
    assert bench.fetch() == []


def test_notifications_are_reported_once() -> None:
    bench = Bench()
    assert bench.notification() is None
    bench.insert()
    assert bench.notification() == bytes.fromhex("50" "03")
    assert bench.notification() is None
    bench.remove()
    assert bench.notification() == bytes.fromhex("50" "02")


def test_an_exchange_is_seen_as_an_empty_slot_first() -> None:
    bench = powered()
    bench.remove()
    bench.insert()
    assert bench.notification() == bytes.fromhex("50" "02")
    assert bench.notification() == bytes.fromhex("50" "03")


def test_an_exchange_is_seen_by_polling_too() -> None:
    bench = powered()
    bench.remove()
    bench.insert()
    assert status(bench.ask(message(0x65, 0, 1))) == (0x81, 0x02, 0x00)
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x01, 0x00)
    assert [action.stamp for action in bench.actions() if isinstance(action, Noticed)] == [2, 3]


def test_a_host_that_does_not_look_gets_the_new_card_all_the_same() -> None:
    bench = powered()
    bench.remove()
    bench.insert()
    bench.interface.slots[0].settle()
    assert bench.notification() == bytes.fromhex("50" "03")


def test_a_card_that_comes_after_that_time_is_not_held_back() -> None:
    bench = powered()
    bench.remove()
    bench.interface.slots[0].settle()
    bench.insert()
    bench.power_on()


def test_a_card_that_only_passed_by() -> None:
    bench = powered()
    bench.remove()
    bench.insert()
    bench.remove()
    assert bench.notification() == bytes.fromhex("50" "02")
    assert bench.notification() is None
    assert Noticed(0, 4) in bench.actions()


def test_what_counts_as_noticed() -> None:
    bench = Bench()
    bench.insert()
    bench.notification()
    assert bench.actions() == []
    bench.ask(message(0x65, 0, 1))
    assert bench.actions() == [Noticed(0, 1)]
    bench.remove()
    bench.notification()
    assert bench.actions() == [Noticed(0, 2)]


def test_parameters() -> None:
    bench = powered()
    assert bench.ask(message(0x6C, 0, 1)) == bytes.fromhex(
        "82" "05000000" "00" "01" "00" "00" "00" "1800000A00"
    )
    assert bench.ask(message(0x61, 0, 2, data=bytes.fromhex("9400001400"))) == bytes.fromhex(
        "82" "05000000" "00" "02" "00" "00" "00" "9400001400"
    )
    # refused: what is in force stays
    assert status(bench.ask(message(0x61, 0, 3, data=bytes.fromhex("7400001400")))) == (
        0x82, 0x40, 0x0A,
    )  # fmt: skip
    # the card has no T=1
    assert status(bench.ask(message(0x61, 0, 4, "010000", bytes(7)))) == (0x82, 0x40, 0x07)
    assert status(bench.ask(message(0x61, 0, 4, "800000", bytes(3)))) == (0x82, 0x40, 0x07)
    assert bench.ask(message(0x6C, 0, 5))[10:].hex() == "9400001400"
    assert bench.ask(message(0x6D, 0, 6))[10:].hex() == "1800000a00"


def test_reset_parameters_takes_the_protocol_back_too() -> None:
    # TS, T0, TD1 = T=0 with TD2, TD2 = T=1, TCK
    bench = powered(atr=bytes.fromhex("3B" "80" "80" "01" "01"))
    t1 = bytes.fromhex("1110004D002000")
    assert bench.ask(message(0x61, 0, 1, "010000", t1))[9:] == b"\x01" + t1
    assert (
        bench.ask(message(0x6D, 0, 2))
        == bytes.fromhex(
            "82"  # RDR_to_PC_Parameters
            "05000000"  # dwLength
            "00"  # bSlot
            "02"  # bSeq
            "00"  # bStatus
            "00"  # bError
            "00"  # bProtocolNum: T=0
            "1100000A00"
        )
    )


def test_parameters_of_t1() -> None:
    bench = powered(atr=T1_ATR)
    assert bench.ask(message(0x6C, 0, 1)) == bytes.fromhex(
        "82" "07000000" "00" "01" "00" "00" "01" "13100045" "00FE00"
    )


def test_clock_rate_and_t0_apdu() -> None:
    bench = powered()
    assert status(bench.ask(message(0x6E, 0, 1, "010000"))) == (0x81, 0x40, 0x00)
    assert bench.ask(message(0x73, 0, 2, data=bytes(8))) == bytes.fromhex(
        "84" "08000000" "00" "02" "00" "00" "00" "A00F0000" "002A0000"
    )
    assert status(bench.ask(message(0x6A, 0, 3, "0300FF"))) == (0x81, 0x00, 0x00)
    assert status(bench.ask(message(0x6A, 0, 4, "040000"))) == (0x81, 0x40, 0x07)


def test_clock_stop_where_it_is_offered() -> None:
    bench = powered(ClassDescriptor.for_reader(clock_stop=True))
    assert status(bench.ask(message(0x6E, 0, 1, "010000"))) == (0x81, 0x40, 0x00)
    bench.ask(message(0x61, 0, 1, data=bytes.fromhex("1100000A02")))
    assert bench.ask(message(0x6E, 0, 1, "010000"))[7:] == bytes.fromhex("00" "00" "02")
    assert bench.ask(message(0x6E, 0, 1, "000000"))[7:] == bytes.fromhex("00" "00" "00")
    assert status(bench.ask(message(0x6E, 0, 1, "020000"))) == (0x81, 0x40, 0x07)
    bench.ask(message(0x61, 0, 1, data=bytes.fromhex("1100000A01")))
    assert bench.ask(message(0x6E, 0, 1, "010000"))[7:] == bytes.fromhex("00" "00" "01")
