# SPDX-License-Identifier: LGPL-2.1-or-later
"""The slot, command by command (CCID rev 1.1, 5.3, 6): bytes in, bytes and actions out."""

import pytest

from vccid.ccid.actions import AskPin, Cancel, Noticed, PowerOff, PowerOn, Transmit
from vccid.ccid.codes import Error
from vccid.ccid.descriptor import ClassDescriptor
from vccid.ccid.pin import PinEnd

from .host import T0_ATR, T1_ATR, Bench, message, powered
from .test_pin import MODIFY, VERIFY

SELECT = bytes.fromhex("00A4040000")
XFR = message(0x6F, 0, 1, data=SELECT)


def status(raw: bytes) -> tuple[int, int, int]:
    """bMessageType, bStatus, bError."""
    return raw[0], raw[7], raw[8]


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
    bench.interface.answered(0, action.work, b"\x6a\x82")
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
    bench.interface.answered(0, action.work, b"\x90\x00")
    (answer,) = bench.fetch()
    assert answer[6] == 5


def test_time_extensions_only_while_the_card_works() -> None:
    bench = powered()
    bench.interface.extend(0)
    assert bench.fetch() == []
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    bench.interface.extend(0)
    bench.interface.extend(0)
    extension = bytes.fromhex("80" "00000000" "00" "05" "80" "01" "00")
    assert bench.fetch() == [extension]
    bench.interface.extend(0)
    bench.interface.answered(0, action.work, b"\x90\x00")
    assert [raw[7] for raw in bench.fetch()] == [0x80, 0x00]


def test_no_time_extension_for_power_on() -> None:
    bench = Bench()
    bench.insert()
    bench.send(message(0x62, 0, 1))
    bench.interface.extend(0)
    assert bench.fetch() == []
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x41, 0xE0)


def test_warm_reset_and_power_off() -> None:
    bench = powered()
    bench.ask(message(0x61, 0, 1, data=bytes.fromhex("9400001400")))
    bench.send(message(0x62, 0, 2))
    (action,) = bench.actions()
    assert isinstance(action, PowerOn)
    bench.interface.powered(0, action.work, T0_ATR)
    bench.fetch()
    assert bench.ask(message(0x6C, 0, 3))[10:].hex() == "1800000a00"
    assert bench.ask(message(0x63, 0, 4)) == bytes.fromhex("81" "00000000" "00" "04" "01" "00" "01")
    assert bench.actions() == [PowerOff(0)]


@pytest.mark.parametrize(("error", "expected"), [(Error.ICC_MUTE, 0xFE), (Error.HW_ERROR, 0xFB)])
def test_a_mute_card(error: Error, expected: int) -> None:
    bench = Bench()
    bench.insert()
    bench.send(message(0x62, 0, 1))
    bench.interface.failed(0, bench.work(PowerOn), error)
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x41, expected)]


@pytest.mark.parametrize(("atr", "error"), [("00", 0xF8), ("3B8001", 0xF7), ("3B800E8E", 0xF6)])
def test_an_atr_that_is_of_no_use(atr: str, error: int) -> None:
    bench = Bench()
    bench.insert()
    bench.send(message(0x62, 0, 1))
    bench.interface.powered(0, bench.work(PowerOn), bytes.fromhex(atr))
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
    bench.interface.failed(0, action.work, Error.HW_ERROR)
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x41, 0xFB)]
    assert bench.actions() == [PowerOff(0)]


def test_removal_ends_a_running_command_then_notifies() -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    bench.remove()
    assert bench.fetch() == [bytes.fromhex("80" "00000000" "00" "05" "42" "FE" "00")]
    assert bench.notification() == bytes.fromhex("50" "02")
    bench.interface.answered(0, action.work, b"\x90\x00")
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
    bench.interface.settle(0)
    assert bench.notification() == bytes.fromhex("50" "03")


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


# --- chains --------------------------------------------------------------------------------

SMALL = ClassDescriptor.for_reader(max_message=10 + 4)


def test_a_command_and_a_response_in_parts() -> None:
    bench = powered(SMALL)
    more = bytes.fromhex("80" "00000000" "00" "01" "00" "00" "10")
    assert bench.ask(message(0x6F, 0, 1, "000100", b"\x00\xb0\x00\x00")) == more
    assert bench.ask(message(0x6F, 0, 1, "000300", b"\x04abc")) == more
    action = bench.transmit(message(0x6F, 0, 2, "000200", b"d"))
    assert action.apdu == b"\x00\xb0\x00\x00\x04abcd"
    bench.interface.answered(0, action.work, b"123456789\x90\x00")
    assert bench.fetch() == [bytes.fromhex("80" "04000000" "00" "02" "00" "00" "01") + b"1234"]
    assert bench.ask(message(0x6F, 0, 3, "001000")) == (
        bytes.fromhex("80" "04000000" "00" "03" "00" "00" "03") + b"5678"
    )
    assert bench.ask(message(0x6F, 0, 4, "001000")) == (
        bytes.fromhex("80" "03000000" "00" "04" "00" "00" "02") + b"9\x90\x00"
    )
    assert status(bench.ask(message(0x6F, 0, 5, "001000"))) == (0x80, 0x40, 0x08)


@pytest.mark.parametrize(
    ("before", "level", "data", "error"),
    [
        (None, "0200", b"x", 0x08),
        (None, "0300", b"x", 0x08),
        (None, "1000", b"", 0x08),
        (None, "1000", b"x", 0x01),
        (None, "0400", b"x", 0x08),
        (None, "0000", b"", 0x01),
        ("0100", "0000", b"x", 0x08),
        ("0100", "0100", b"x", 0x08),
        ("0100", "0500", b"x", 0x08),
    ],
)
def test_faults_in_a_chain(before: str | None, level: str, data: bytes, error: int) -> None:
    bench = powered(SMALL)
    if before is not None:
        bench.ask(message(0x6F, 0, 1, "00" + before, b"abcd"))
    assert status(bench.ask(message(0x6F, 0, 1, "00" + level, data))) == (0x80, 0x40, error)
    # whatever was open is closed now
    assert status(bench.ask(message(0x6F, 0, 1, "000200", b"x"))) == (0x80, 0x40, 0x08)


def test_what_ends_a_chain() -> None:
    bench = powered(SMALL)
    bench.ask(message(0x6F, 0, 1, "000100", b"abcd"))
    bench.ask(message(0x65, 0, 1))
    assert bench.transmit(message(0x6F, 0, 1, "000200", b"e")).apdu == b"abcde"
    bench = powered(SMALL)
    bench.ask(message(0x6F, 0, 1, "000100", b"abcd"))
    bench.power_on()
    assert status(bench.ask(message(0x6F, 0, 1, "000200", b"x"))) == (0x80, 0x40, 0x08)


def test_the_longest_apdu_and_response() -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 1, data=bytes(65544)))
    assert len(action.apdu) == 65544
    bench.interface.answered(0, action.work, bytes(65538))
    (answer,) = bench.fetch()
    assert len(answer) == 10 + 65538
    bench.ask(message(0x6F, 0, 1, "000100", bytes(65544)))
    assert status(bench.ask(message(0x6F, 0, 1, "000200", b"x"))) == (0x80, 0x40, 0x01)


def test_short_apdu_level() -> None:
    bench = powered(ClassDescriptor.for_reader(extended=False))
    assert status(bench.ask(message(0x6F, 0, 1, "000100", b"x"))) == (0x80, 0x40, 0x08)
    assert status(bench.ask(message(0x6F, 0, 1))) == (0x80, 0x40, 0x01)
    assert status(bench.ask(message(0x6F, 0, 1, data=bytes(262)))) == (0x80, 0x40, 0x01)
    action = bench.transmit(message(0x6F, 0, 1, data=bytes(261)))
    bench.interface.answered(0, action.work, bytes(259))
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x40, 0xFC)]


# --- framing ---------------------------------------------------------------------------------


def test_a_message_in_pieces() -> None:
    bench = powered()
    raw = message(0x6F, 0, 1, data=bytes(300))
    for at in range(0, 256, 64):
        assert bench.interface.bulk_out(raw[at : at + 64], ends=False)
    assert bench.actions() == []
    assert len(bench.transmit(raw[256:]).apdu) == 300


def test_a_full_last_packet_needs_no_empty_one_and_bears_it() -> None:
    bench = powered()
    assert bench.interface.bulk_out(message(0x6F, 0, 1, data=bytes(54)), ends=False)
    action = bench.actions()[-1]
    assert isinstance(action, Transmit)
    assert bench.interface.bulk_out(b"", ends=True)
    bench.interface.answered(0, action.work, b"\x90\x00")
    assert len(bench.fetch()) == 1


@pytest.mark.parametrize(
    "raw",
    [
        message(0x65, 0, 1) + b"x",  # more than dwLength
        message(0x6F, 0, 1, data=bytes(9))[:-1],  # less
        b"\x6f\xff\xff\xff\xff\0\1\0\0\0",  # 4 GiB
    ],
)
def test_a_wrong_length_is_answered(raw: bytes) -> None:
    bench = Bench()
    assert status(bench.ask(raw))[2] == 0x01
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x02, 0x00)


def test_an_overlong_message_is_swallowed_to_its_end() -> None:
    bench = Bench(ClassDescriptor.for_reader(max_message=271))
    raw = message(0x6F, 0, 1, data=bytes(300))
    for at in range(0, 256, 64):
        assert bench.interface.bulk_out(raw[at : at + 64], ends=False)
    assert bench.interface.bulk_out(raw[256:], ends=True)
    assert [status(answer)[2] for answer in bench.fetch()] == [0x01]
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x02, 0x00)


def test_less_than_a_header_halts_the_pipe() -> None:
    bench = Bench()
    assert not bench.interface.bulk_out(b"\x65\0\0", ends=True)
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x02, 0x00)


def test_the_command_pipe_waits_while_nobody_fetches() -> None:
    bench = Bench()
    for seq in range(32):
        assert bench.interface.accepts
        bench.send(message(0x65, 0, seq))
    assert not bench.interface.accepts
    bench.interface.next_response()
    assert bench.interface.accepts


# --- abort -----------------------------------------------------------------------------------

ABORTED = bytes.fromhex("81" "00000000" "00" "09" "00" "00" "00")


@pytest.mark.parametrize("control_first", [True, False])
def test_abort_waits_for_both_halves_and_for_the_card(control_first: bool) -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    bench.interface.extend(0)
    if control_first:
        assert bench.interface.abort(0, 9)
        assert status(bench.ask(message(0x65, 0, 6))) == (0x81, 0x40, 0xFF)
        bench.send(message(0x72, 0, 9))
    else:
        bench.send(message(0x72, 0, 9))
        assert status(bench.ask(message(0x65, 0, 6))) == (0x81, 0x40, 0xFF)
        assert bench.interface.abort(0, 9)
    assert bench.fetch() == []
    bench.interface.answered(0, action.work, b"\x90\x00")
    assert bench.fetch() == [ABORTED]
    bench.transmit(message(0x6F, 0, 10, data=SELECT))


def test_abort_drops_a_response_that_was_not_fetched() -> None:
    bench = powered()
    action = bench.transmit(message(0x6F, 0, 5, data=SELECT))
    bench.interface.answered(0, action.work, b"\x90\x00")
    bench.interface.abort(0, 9)
    bench.send(message(0x72, 0, 9))
    assert bench.fetch() == [ABORTED]


def test_abort_with_another_sequence_number() -> None:
    bench = powered()
    bench.interface.abort(0, 9)
    assert status(bench.ask(message(0x72, 0, 8))) == (0x81, 0x40, 0xFF)
    bench.interface.abort(0, 10)
    assert bench.ask(message(0x72, 0, 10))[6:9] == bytes.fromhex("0A" "00" "00")
    bench.send(message(0x72, 0, 11))
    bench.send(message(0x72, 0, 12))
    assert [raw[6:9] for raw in bench.fetch()] == [bytes.fromhex("0B" "40" "FF")]
    bench.interface.abort(0, 13)
    assert [raw[6:9] for raw in bench.fetch()] == [bytes.fromhex("0C" "40" "FF")]
    assert bench.ask(message(0x72, 0, 13))[6:9] == bytes.fromhex("0D" "00" "00")


def test_abort_of_power_on_and_of_a_missing_slot() -> None:
    bench = Bench()
    bench.insert()
    bench.send(message(0x62, 0, 1))
    work = bench.work(PowerOn)
    bench.interface.abort(0, 9)
    assert bench.actions() == [Cancel(0, work)]
    assert bench.ask(message(0x72, 0, 9))[6:9] == bytes.fromhex("09" "01" "00")
    assert not bench.interface.abort(1, 9)


def test_removal_in_the_middle_of_an_abort() -> None:
    bench = powered()
    bench.transmit(XFR)
    bench.interface.abort(0, 9)
    bench.send(message(0x72, 0, 9))
    bench.remove()
    assert [raw[6:9] for raw in bench.fetch()] == [bytes.fromhex("09" "02" "00")]


# --- PIN pad ---------------------------------------------------------------------------------

PIN_PAD = ClassDescriptor.for_reader(pin_pad=True)


def ask_pin(bench: Bench, data: bytes) -> AskPin:
    bench.send(message(0x69, 0, 5, data=data))
    action = bench.actions()[-1]
    assert isinstance(action, AskPin)
    return action


def test_a_pin_that_is_typed_goes_to_the_card() -> None:
    bench = powered(PIN_PAD)
    asked = ask_pin(bench, VERIFY)
    bench.interface.extend(0)
    assert [raw[7] for raw in bench.fetch()] == [0x80]
    bench.interface.typed(0, asked.work, ["123456"])
    (sent,) = bench.actions()
    assert isinstance(sent, Transmit)
    assert sent.apdu == bytes.fromhex("00200000" "08" "313233343536FFFF")
    bench.interface.answered(0, sent.work, b"\x90\x00")
    assert bench.fetch() == [bytes.fromhex("80" "02000000" "00" "05" "00" "00" "00" "9000")]


@pytest.mark.parametrize(("end", "error"), [(PinEnd.CANCELLED, 0xEF), (PinEnd.TIMEOUT, 0xF0)])
def test_a_pin_that_is_not_typed(end: PinEnd, error: int) -> None:
    bench = powered(PIN_PAD)
    bench.interface.not_typed(0, ask_pin(bench, VERIFY).work, end)
    assert [status(raw) for raw in bench.fetch()] == [(0x80, 0x40, error)]
    bench.transmit(XFR)


def test_a_confirmation_that_differs_never_reaches_the_card() -> None:
    bench = powered(PIN_PAD)
    asked = ask_pin(bench, MODIFY)
    bench.interface.typed(0, asked.work, ["123456", "1111", "1112"])
    assert bench.actions() == []
    assert [raw[10:] for raw in bench.fetch()] == [b"\x64\x02"]


@pytest.mark.parametrize("way", ["abort", "remove", "reset"])
def test_an_entry_that_nobody_waits_for_any_more(way: str) -> None:
    bench = powered(PIN_PAD)
    asked = ask_pin(bench, VERIFY)
    if way == "abort":
        bench.interface.abort(0, 9)
    elif way == "remove":
        bench.remove()
    else:
        bench.interface.reset()
    bench.fetch()
    assert Cancel(0, asked.work) in bench.actions()
    bench.interface.typed(0, asked.work, ["123456"])
    assert bench.actions() == []


def test_secure_refuses_what_it_cannot() -> None:
    bench = powered(PIN_PAD)
    assert status(bench.ask(message(0x69, 0, 1, "000100", VERIFY))) == (0x80, 0x40, 0x08)
    assert status(bench.ask(message(0x69, 0, 1, data=b"\x04"))) == (0x80, 0x40, 0x00)
    assert status(bench.ask(message(0x69, 0, 1, data=b"\x07"))) == (0x80, 0x40, 0x0A)
    assert status(bench.ask(message(0x69, 0, 1))) == (0x80, 0x40, 0x01)


# --- more slots, reset -------------------------------------------------------------------------


def test_slots_work_side_by_side() -> None:
    bench = Bench(ClassDescriptor.for_reader(2))
    for slot in (0, 1):
        bench.insert(slot)
        bench.power_on(slot=slot)
    assert bench.notification() == bytes.fromhex("50" "0F")
    first = bench.transmit(message(0x6F, 0, 1, data=b"a"))
    second = bench.transmit(message(0x6F, 1, 2, data=b"b"))
    bench.interface.answered(1, second.work, b"\x90\x01")
    bench.interface.answered(0, first.work, b"\x90\x00")
    assert [(raw[5], raw[6], raw[10:].hex()) for raw in bench.fetch()] == [
        (1, 2, "9001"),
        (0, 1, "9000"),
    ]


def test_no_more_busy_slots_than_announced() -> None:
    bench = Bench(ClassDescriptor(max_slot_index=1, max_busy_slots=1))
    bench.insert(0)
    bench.power_on(slot=0)
    bench.transmit(message(0x6F, 0, 1, data=b"a"))
    assert status(bench.ask(message(0x65, 1, 2))) == (0x81, 0x42, 0xE0)


def test_reset_forgets_everything_and_tells_of_the_card_again() -> None:
    bench = powered()
    action = bench.transmit(XFR)
    bench.interface.bulk_out(message(0x6F, 0, 1, data=bytes(99))[:64], ends=False)
    bench.interface.reset()
    assert bench.actions() == [PowerOff(0)]
    bench.interface.answered(0, action.work, b"\x90\x00")
    assert bench.fetch() == []
    assert bench.notification() == bytes.fromhex("50" "03")
    assert status(bench.ask(message(0x65, 0, 2))) == (0x81, 0x01, 0x00)


def test_the_control_requests() -> None:
    interface = Bench().interface
    assert interface.clock_frequencies() == bytes.fromhex("A00F0000")
    assert interface.data_rates()[:4] == bytes.fromhex("002A0000")
    assert len(interface.data_rates()) == 6 * 4
