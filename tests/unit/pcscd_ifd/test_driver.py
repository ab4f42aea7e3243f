# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver at pcscd's API, against a daemon that says exactly what the test says."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.pcscd_ifd.conftest import (
    APDU,
    ATR,
    BUSY,
    CARD_SEEN,
    COMMUNICATION_ERROR,
    CONTROL,
    DOWN,
    EMPTY_SEEN,
    ERROR_TAG,
    HELLO,
    INSUFFICIENT_BUFFER,
    LUN,
    NO_SUCH_DEVICE,
    NOT_PRESENT,
    NOT_SUPPORTED,
    POWER_ACTION,
    POWER_OFF,
    POWER_ON,
    PRESENT,
    PROTOCOL_NOT_SUPPORTED,
    RESET,
    RESET_KIND,
    SECOND_LUN,
    SUCCESS,
    TRANSMIT,
    UP,
    Daemon,
    Stub,
    answer_power_on,
    card,
    finish,
    frame,
    powered,
    seen,
)


async def test_a_command_goes_out_and_its_answer_comes_back(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("transmit", LUN, APDU.hex(), 258)
    assert (
        await commands.receive(19)
        == (
            b"\x13"  # kind: TRANSMIT
            b"\x00"  # status
            b"\x00\x00\x00\x0d"  # length
            b"\x00\xa4\x04\x00\x07\xa0\x00\x00\x00\x79\x03\x00\x00"
        )
    )
    commands.send(
        b"\x13"  # kind: TRANSMIT
        b"\x00"  # status: OK
        b"\x00\x00\x00\x02"  # length
        b"\x90\x00"
    )
    assert await stub.result() == "0 2 9000"
    await finish(stub)


async def test_without_a_daemon_the_reader_is_there_and_empty(stub: Stub, daemon: Daemon) -> None:
    path = daemon.path.with_name("none.ifd")
    assert await stub.call("open", LUN, f"vccid:{path}") == SUCCESS
    assert await stub.call("presence", LUN) == NOT_PRESENT
    assert (await stub.call("power", LUN, UP)).startswith(f"{NOT_PRESENT} ")
    assert (await stub.call("transmit", LUN, "00A40400", 258)).startswith(f"{NOT_PRESENT} 0")
    assert await stub.call("close", LUN) == SUCCESS


async def test_removal_and_insertion_reach_the_event_thread(stub: Stub, daemon: Daemon) -> None:
    events, commands = await powered(stub, daemon)
    events.send(card(2, b""))
    assert await stub.event() == EMPTY_SEEN
    assert await events.receive(14) == seen(2)
    assert await stub.call("presence", LUN) == NOT_PRESENT
    events.send(card(3))
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    assert await events.receive(14) == seen(3)
    assert await stub.call("presence", LUN) == PRESENT
    await finish(stub)


async def test_an_exchange_between_two_looks_is_seen(stub: Stub, daemon: Daemon) -> None:
    events, commands = await powered(stub, daemon)
    events.send(card(2, b""), card(3))
    assert await stub.event() == EMPTY_SEEN
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    # Where the event thread looks between the two frames, it has seen the first for itself.
    while (told := await events.receive(14)) != seen(3):
        assert told == seen(2)
    await finish(stub)


async def test_a_new_generation_alone_is_an_exchange(stub: Stub, daemon: Daemon) -> None:
    events, commands = await powered(stub, daemon)
    events.send(card(5))
    assert await stub.event() == EMPTY_SEEN
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    assert await events.receive(14) == seen(5)
    await finish(stub)


async def test_the_card_is_removed_while_it_works(stub: Stub, daemon: Daemon) -> None:
    events, commands = await powered(stub, daemon)
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    events.send(card(2, b""))
    commands.send(frame(TRANSMIT, status=1))
    assert await stub.late() == f"{NOT_PRESENT} 0"
    assert await stub.event() == EMPTY_SEEN
    assert await events.receive(14) == seen(2)
    await finish(stub)


async def test_a_command_that_finds_no_card_makes_pcscd_start_over(
    stub: Stub, daemon: Daemon
) -> None:
    events, commands = await powered(stub, daemon)
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    commands.send(frame(TRANSMIT, status=1))  # and no event: the session alone is over
    assert await stub.late() == f"{NOT_PRESENT} 0"
    assert await stub.event() == EMPTY_SEEN
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    await finish(stub)


async def test_the_daemon_dies_and_comes_back(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    await daemon.stop()
    assert await stub.late() == f"{NOT_PRESENT} 0"
    assert await stub.event() == EMPTY_SEEN
    daemon.path.unlink(missing_ok=True)
    await daemon.listen()
    events, commands = await daemon.link()
    events.send(card(1))
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    assert await events.receive(14) == seen(1)
    await finish(stub)


async def test_a_long_command_and_a_long_answer(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    command = bytes(range(256)) * 256  # 65,536
    answer = bytes(reversed(command)) + b"\x90\x00"  # 65,538
    await stub.begin("&transmit", LUN, command.hex(), 65548)
    assert await commands.receive(6 + len(command)) == frame(TRANSMIT, command)
    commands.send(frame(TRANSMIT, answer))
    assert await stub.late() == f"0 65538 {answer.hex()}"
    await finish(stub)


async def test_an_answer_longer_than_the_room_says_so(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("&transmit", LUN, APDU.hex(), 4)
    await commands.receive(19)
    commands.send(frame(TRANSMIT, b"\x01\x02\x03\x04\x05\x90\x00"))
    assert await stub.late() == "0 7 01020304"
    await finish(stub)


async def test_an_answer_byte_by_byte(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    for byte in frame(BUSY) + frame(TRANSMIT, b"\xaa\x90\x00"):
        commands.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await stub.late() == "0 3 aa9000"
    await finish(stub)


async def test_busy_and_failed_cards(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    for status, result in ((2, POWER_ACTION), (4, COMMUNICATION_ERROR)):
        await stub.begin("&power", LUN, RESET)
        assert await commands.receive(6) == frame(RESET_KIND)
        commands.send(frame(RESET_KIND, status=status))
        assert await stub.late() == f"{result} 0"
    await stub.begin("&power", LUN, DOWN)
    assert await commands.receive(6) == frame(POWER_OFF)
    commands.send(frame(POWER_OFF))
    assert await stub.late() == SUCCESS
    await finish(stub)


#: What no daemon of ours sends instead of an answer to TRANSMIT.
GARBAGE = {
    "a 4 GiB length": b"\x13\x00\xff\xff\xff\xff",
    "one byte too long": frame(TRANSMIT, bytes(65539)),
    "no status word": frame(TRANSMIT, b"\x90"),
    "another command's answer": frame(POWER_ON, ATR),
    "an unknown kind": frame(0x77, b"\x90\x00"),
    "an unknown status": frame(TRANSMIT, status=9),
    "a payload with a refusal": frame(TRANSMIT, b"\x90\x00", status=1),
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_for_an_answer_empties_the_reader_until_a_daemon_is_back(
    stub: Stub, daemon: Daemon, garbage: bytes
) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    commands.send(garbage)
    assert await stub.late() == f"{NOT_PRESENT} 0"
    assert await stub.event() == EMPTY_SEEN
    assert await commands.ended()
    events, commands = await daemon.link()
    events.send(card(1))
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    await finish(stub)


#: What no daemon of ours sends on EVENTS.
WRONG_EVENTS = {
    "a 4 GiB length": b"\x02\x00\xff\xff\xff\xff",
    "an ATR of one byte": card(2, b"\x3b"),
    "an ATR of 34 bytes": card(2, bytes(34)),
    "an ATR without a card": frame(0x02, b"\x00" + bytes(8) + ATR),
    "a flag of 2": frame(0x02, b"\x02" + bytes(8) + ATR),
    "a cut generation": frame(0x02, b"\x00" + bytes(7)),
    "an answer": frame(TRANSMIT, b"\x90\x00"),
    "a status": frame(0x02, b"\x00" + bytes(8), status=1),
}


@pytest.mark.parametrize("garbage", WRONG_EVENTS.values(), ids=WRONG_EVENTS.keys())
async def test_garbage_for_an_event_empties_the_reader(
    stub: Stub, daemon: Daemon, garbage: bytes
) -> None:
    events, _ = await powered(stub, daemon)
    events.send(garbage)
    assert await stub.event() == EMPTY_SEEN
    assert await events.ended()
    await finish(stub)


STRANGERS = {
    "another version": HELLO[:-1] + b"\x02\x01",
    "another magic": HELLO.replace(b"VCCID", b"VPCD.") + b"\x01",
    "another role": HELLO + b"\x02",
    "a short HELLO": frame(0x01, b"VCCIDIFD"),
    "text": b"220 mail.example.org ESMTP\r\n",
}


@pytest.mark.parametrize("hello", STRANGERS.values(), ids=STRANGERS.keys())
async def test_a_stranger_at_the_socket_is_left_and_tried_again(
    stub: Stub, daemon: Daemon, hello: bytes
) -> None:
    assert await stub.call("open", LUN, daemon.path) == SUCCESS
    events, _ = await daemon.accept(), await daemon.accept()
    events.send(hello)
    assert await events.ended()
    assert await stub.call("presence", LUN) == NOT_PRESENT
    await daemon.accept()
    assert await stub.call("close", LUN) == SUCCESS


async def test_a_silent_daemon_is_given_up(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    assert await stub.late() == f"{NOT_PRESENT} 0"
    assert await stub.event() == EMPTY_SEEN
    assert await commands.ended()
    await finish(stub)


async def test_a_reader_is_closed_while_a_command_waits(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    await finish(stub)
    assert await stub.late() == f"{NOT_PRESENT} 0"
    assert await stub.call("presence", LUN) == NO_SUCH_DEVICE
    assert await stub.call("close", LUN) == NO_SUCH_DEVICE


async def test_two_readers_do_not_wait_for_each_other(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    second = Daemon(daemon.path.with_name("other.ifd"))
    await second.listen()
    assert await stub.call("open", SECOND_LUN, second.path) == SUCCESS
    events, _ = await second.link()
    assert await stub.call("events", SECOND_LUN) == SUCCESS
    await stub.begin("&transmit", LUN, APDU.hex(), 258)
    await commands.receive(19)
    events.send(card(7, b""))
    assert await events.receive(14) == seen(7)
    assert await stub.call("presence", SECOND_LUN) == NOT_PRESENT
    commands.send(frame(TRANSMIT, b"\x90\x00"))
    assert await stub.late() == "0 2 9000"
    assert await stub.call("halt", SECOND_LUN) == SUCCESS
    assert await stub.call("close", SECOND_LUN) == SUCCESS
    await second.stop()
    await finish(stub)


async def test_a_lun_is_used_again(stub: Stub, daemon: Daemon) -> None:
    for _ in range(3):
        await powered(stub, daemon)
        assert await stub.call("open", LUN, daemon.path) == COMMUNICATION_ERROR
        await finish(stub)


@pytest.mark.parametrize(
    ("atr", "offered"),
    [
        ("3B 7A 18 00 00 73 66 74 65 2D 63 64 31 34 34", {1}),  # no TD1: T=0
        ("3B F7 13 00 00 81 31 FE 45 80 31 C1 73 C0 21 C0 CD", {2}),  # T=1
        ("3B 80 80 01 01", {1, 2}),  # TD1 T=0, TD2 T=1
        ("3B 80", {1}),  # TD1 promised and missing
    ],
)
async def test_the_protocols_the_atr_offers(
    stub: Stub, daemon: Daemon, atr: str, offered: set[int]
) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("&power", LUN, UP)
    assert await commands.receive(6) == frame(POWER_ON)
    commands.send(frame(POWER_ON, bytes.fromhex(atr)))
    await stub.late()
    for protocol in (1, 2, 3, 4):
        wanted = SUCCESS if protocol in offered else PROTOCOL_NOT_SUPPORTED
        assert await stub.call("protocol", LUN, protocol) == wanted
    await finish(stub)


async def test_what_is_not_offered(stub: Stub, daemon: Daemon) -> None:
    await powered(stub, daemon)
    assert await stub.call("get", LUN, "0x7FFF0003", 264) == f"{ERROR_TAG} 0"
    assert await stub.call("set", LUN, "0xFB4") == ERROR_TAG
    assert (await stub.call("power", LUN, 77)).startswith(f"{NOT_SUPPORTED} ")
    await finish(stub)


FEATURES = (
    "12"  # FEATURE_GET_TLV_PROPERTIES
    "04"  # length
    "42330012"  # control code
)
PROPERTIES = (
    "0a"  # dwMaxAPDUDataSize
    "04"  # length
    "00000100"  # 65,536
)


@pytest.mark.parametrize(
    ("code", "own"), [("42000d48", FEATURES), ("42330012", PROPERTIES)], ids=["features", "TLV"]
)
async def test_what_the_daemon_adds_stands_behind_our_own(
    stub: Stub, daemon: Daemon, code: str, own: str
) -> None:
    _, commands = await powered(stub, daemon)
    for status, added, room, wanted in (
        (0, b"\x06\x04\x42\x33\x00\x06", 12, f"0 12 {own}060442330006"),
        (0, b"\x06\x04\x42\x33\x00\x06", 11, f"{INSUFFICIENT_BUFFER} 0"),
        (0, b"", 6, f"0 6 {own}"),
        (3, b"", 256, f"0 6 {own}"),  # NOT_SUPPORTED: no PIN pad
        (4, b"", 256, f"0 6 {own}"),  # FAILED
    ):
        await stub.begin("&control", LUN, f"0x{code}", "-", room)
        assert await commands.receive(10) == frame(CONTROL, bytes.fromhex(code))
        commands.send(frame(CONTROL, added, status=status))
        assert await stub.late() == wanted
    assert await stub.call("control", LUN, f"0x{code}", "-", 5) == f"{INSUFFICIENT_BUFFER} 0"
    await finish(stub)


async def test_without_a_daemon_no_pin_pad_is_claimed(stub: Stub, daemon: Daemon) -> None:
    path = daemon.path.with_name("none.ifd")
    assert await stub.call("open", LUN, path) == SUCCESS
    assert await stub.call("control", LUN, "0x42000D48", "-", 256) == f"0 6 {FEATURES}"
    assert await stub.call("control", LUN, "0x42330006", "01", 256) == f"{NOT_PRESENT} 0"
    assert await stub.call("close", LUN) == SUCCESS


async def test_a_pin_entry_waits_for_its_answer(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    for status, answer, wanted in (
        (0, b"\x90\x00", "0 2 9000"),
        (1, b"", f"{NOT_PRESENT} 0"),
    ):
        await stub.begin("&control", LUN, "0x42330006", "0102", 256)
        assert await commands.receive(12) == frame(CONTROL, b"\x42\x33\x00\x06\x01\x02")
        commands.send(frame(BUSY), frame(BUSY), frame(CONTROL, answer, status=status))
        assert await stub.late() == wanted
    assert await stub.event() == EMPTY_SEEN
    await answer_power_on(commands)
    assert await stub.event() == CARD_SEEN
    await finish(stub)


async def test_a_control_code_nobody_serves(stub: Stub, daemon: Daemon) -> None:
    _, commands = await powered(stub, daemon)
    await stub.begin("&control", LUN, "0x42330006", "0102", 256)
    assert (
        await commands.receive(12)
        == (
            b"\x14"  # kind: CONTROL
            b"\x00"  # status
            b"\x00\x00\x00\x06"  # length
            b"\x42\x33\x00\x06"  # control code: FEATURE_VERIFY_PIN_DIRECT
            b"\x01\x02"
        )
    )
    commands.send(frame(CONTROL, status=3))
    assert await stub.late() == f"{NOT_SUPPORTED} 0"
    await finish(stub)


async def test_a_path_too_long_for_a_socket(stub: Stub) -> None:
    assert await stub.call("open", LUN, "/" + "x" * 107) == COMMUNICATION_ERROR
    assert await stub.call("open", LUN, "/" + "x" * 106) == SUCCESS
    assert await stub.call("close", LUN) == SUCCESS


async def test_a_lun_with_a_slot_is_none_of_ours(stub: Stub, daemon: Daemon) -> None:
    assert await stub.call("open", LUN | 1, daemon.path) == COMMUNICATION_ERROR
    assert await stub.call("channel", LUN, 3) == SUCCESS
    assert await stub.call("get", LUN, "0x10103", 264) == f"{ERROR_TAG} 0"  # nobody serves it
    assert await stub.call("close", LUN) == SUCCESS
