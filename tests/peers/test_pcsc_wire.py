# SPDX-License-Identifier: LGPL-2.1-or-later
"""What programs hear by libpcsclite's protocol, message by message, and what none can break."""

from __future__ import annotations

import contextlib
import resource
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers import pcsclite_client as pc
from tests.peers.pcsclite_client import RawClient
from tests.peers.plain_card import ATR_T0, COUNT, SELECT, WAIT, long_answer
from tests.peers.plain_daemon import PROGRAMS_MAX, PlainDaemon

READER, OTHER = "vccid vccid0 00 00", "vccid vccid1 01 00"
PRESENT, ABSENT, OFF = 0x34, 0x02, 0x04
Door = Callable[..., RawClient]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PlainDaemon, Path]]:
    directory = tmp_path_factory.mktemp("d")
    paths = [directory / name for name in ("vccid0.ifd", "vccid1.ifd", "pcscd.comm")]
    with PlainDaemon(paths) as running:
        yield running, paths[-1]


@pytest.fixture
def card(daemon: tuple[PlainDaemon, Path]) -> Iterator[PlainDaemon]:
    """A fresh card in the first reader; the second one is empty."""
    running, _ = daemon
    running.ask("insert 0")
    yield running
    running.ask("remove 0")


@pytest.fixture
def door(daemon: tuple[PlainDaemon, Path]) -> Iterator[Door]:
    """Opens a context, of protocol 4:4 or another."""
    with contextlib.ExitStack() as end:

        def opened(minor: int = 4) -> RawClient:
            client = end.enter_context(RawClient(daemon[1], minor))
            client.establish()
            return client

        yield opened


def connected(client: RawClient, mode: int = pc.SHARED) -> int:
    rv, card, _ = client.connect(READER, mode)
    assert rv == pc.SUCCESS
    return card


# -- versions and contexts ---------------------------------------------------------------------


@pytest.mark.parametrize("minor", [4, 5, 6])
def test_each_library_goes_on_in_its_own_version(door: Door, card: PlainDaemon, minor: int) -> None:
    client = door(minor)
    assert client.states()[READER][1:] == (PRESENT, 0, ATR_T0, 0)
    handle = connected(client)
    assert client.transmit(handle, SELECT) == (pc.SUCCESS, b"\x90\x00")
    assert client.states()[READER][1:] == (PRESENT, 1, ATR_T0, pc.T0)


@pytest.mark.parametrize("version", [(4, 7), (4, 3), (3, 4), (5, 0)])
def test_another_version_is_told_ours_once(
    daemon: tuple[PlainDaemon, Path], version: tuple[int, int]
) -> None:
    with RawClient(daemon[1]) as client:
        answer = client.ask(pc.VERSION, "=iiI", *version, 0)
        assert answer == [4, 6, pc.SERVICE_STOPPED]
        client.send(pc.VERSION, struct.pack("=iiI", *version, 0))
        assert client.hung_up()
    with RawClient(daemon[1]) as client:
        assert client.ask(pc.VERSION, "=iiI", *version, 0)[2] == pc.SERVICE_STOPPED
        assert client.ask(pc.VERSION, "=iiI", 4, 6, 0) == [4, 6, pc.SUCCESS]


def test_a_context_is_released_and_may_come_again(door: Door, card: PlainDaemon) -> None:
    client = door()
    connected(client)
    first = client.context
    assert client.ask(pc.RELEASE, "=II", first + 1, 0)[1] == pc.INVALID_VALUE
    assert client.ask(pc.RELEASE, "=II", first, 0)[1] == pc.SUCCESS
    assert client.states()[READER][2] == 0
    _, second, rv = client.ask(pc.ESTABLISH, "=III", 0, 0, 0)
    assert rv == pc.SUCCESS and second not in (0, first)
    assert client.ask(pc.ESTABLISH, "=III", 4, 0, 0)[2] == pc.INVALID_VALUE


# -- connecting --------------------------------------------------------------------------------


def test_what_connect_refuses(door: Door, card: PlainDaemon) -> None:
    client = door()
    assert client.connect("vccid vccid0 00 01")[0] == pc.UNKNOWN_READER
    assert client.connect("")[0] == pc.UNKNOWN_READER
    assert client.connect(READER, pc.SHARED, 0)[0] == pc.PROTO_MISMATCH
    assert client.connect(READER, 7)[0] == pc.INVALID_VALUE
    assert client.connect(READER, pc.SHARED, pc.T1)[0] == pc.PROTO_MISMATCH
    assert client.connect(OTHER)[0] == pc.NO_SMARTCARD
    assert client.states()[READER][2] == 0


def test_an_empty_reader_takes_a_direct_connection(door: Door, daemon: object) -> None:
    client = door()
    rv, handle, protocol = client.connect(OTHER, pc.DIRECT, 0)
    assert (rv, protocol) == (pc.SUCCESS, 0)
    assert client.states()[OTHER][1:3] == (ABSENT, 1)
    assert client.transmit(handle, SELECT, pc.RAW)[0] == pc.NO_SMARTCARD
    assert client.control(handle, 0x42000D48)[1] == bytes.fromhex("12 04 42 33 00 12")
    assert client.begin(handle) == pc.SUCCESS
    assert client.end(handle, pc.RESET) == pc.REMOVED_CARD
    assert client.end(handle) == pc.NOT_TRANSACTED
    assert client.disconnect(handle) == pc.SUCCESS


def test_exclusive_keeps_all_others_out_and_has_a_lock(door: Door, card: PlainDaemon) -> None:
    first, second = door(), door()
    handle = connected(first, pc.EXCLUSIVE)
    assert second.states()[READER][2] == -1
    assert second.connect(READER)[0] == pc.SHARING_VIOLATION
    assert second.connect(READER, pc.DIRECT, 0)[0] == pc.SHARING_VIOLATION
    assert first.connect(READER)[0] == pc.SHARING_VIOLATION
    assert first.end(handle) == pc.NOT_TRANSACTED
    assert first.begin(handle) == first.end(handle) == pc.SUCCESS
    assert first.reconnect(handle, pc.SHARED) == pc.SUCCESS
    connected(second)
    assert first.reconnect(handle, pc.EXCLUSIVE) == pc.SHARING_VIOLATION


# -- transactions ------------------------------------------------------------------------------


def test_those_who_begin_wait_in_order_of_arrival(door: Door, card: PlainDaemon) -> None:
    clients = [door() for _ in range(4)]
    handles = [connected(client) for client in clients]
    assert clients[0].begin(handles[0]) == pc.SUCCESS
    for client, handle in zip(clients[1:], handles[1:], strict=True):
        client.send_begin(handle)
        assert client.silent(0.01)
    assert clients[0].end(handles[0]) == pc.SUCCESS
    for client, handle in zip(clients[1:], handles[1:], strict=True):
        assert client.answer_begin() == pc.SUCCESS
        assert client.end(handle) == pc.SUCCESS


def test_one_who_waits_is_sent_away_soon_and_first_when_it_is_back(
    door: Door, card: PlainDaemon
) -> None:
    owner, first, second = door(), door(), door()
    mine, its, other = connected(owner), connected(first), connected(second)
    assert owner.begin(mine) == pc.SUCCESS
    begin = time.monotonic()
    assert first.begin(its) == pc.SHARING_VIOLATION
    assert 0.05 < time.monotonic() - begin < 5
    second.send_begin(other)
    assert owner.end(mine) == pc.SUCCESS
    assert second.silent(0.02)
    assert first.begin(its) == pc.SUCCESS
    assert first.end(its) == pc.SUCCESS
    assert second.answer_begin() == pc.SUCCESS


def test_what_waits_for_a_transaction_and_what_does_not(door: Door, card: PlainDaemon) -> None:
    owner, other, third = door(), door(), door()
    mine, its = connected(owner), connected(other)
    assert owner.begin(mine) == pc.SUCCESS
    assert other.status(its) == pc.SHARING_VIOLATION
    assert other.control(its, 0x42000D48)[0] == pc.SHARING_VIOLATION
    assert other.attribute(its, 0x7FFF0003)[0] == pc.SHARING_VIOLATION
    assert other.end(its) == pc.SHARING_VIOLATION
    assert other.transmit(its, SELECT)[0] == pc.SHARING_VIOLATION
    assert other.reconnect(its) == pc.SHARING_VIOLATION
    assert other.disconnect(its, pc.LEAVE) == pc.SUCCESS
    third.begin_connect(READER)
    assert third.silent()
    assert owner.end(mine) == pc.SUCCESS
    assert third.end_connect()[0] == pc.SUCCESS


def test_a_disconnect_that_resets_waits_for_the_others_end(door: Door, card: PlainDaemon) -> None:
    owner, other = door(), door()
    mine, its = connected(owner), connected(other)
    assert owner.begin(mine) == pc.SUCCESS
    other.send(pc.DISCONNECT, struct.pack("=iII", its, pc.RESET, 0))
    assert other.silent(0.15)
    assert owner.end(mine) == pc.SUCCESS
    assert struct.unpack("=iII", other.receive(12))[2] == pc.SUCCESS
    assert owner.status(mine) == pc.RESET_CARD


def test_a_transaction_has_a_depth_and_one_end_too_many_is_told(
    door: Door, card: PlainDaemon
) -> None:
    client = door()
    handle = connected(client)
    assert [client.begin(handle) for _ in range(2)] == [pc.SUCCESS] * 2
    assert [client.end(handle) for _ in range(3)] == [pc.SUCCESS] * 2 + [pc.NOT_TRANSACTED]


@pytest.mark.parametrize("how", ["killed", "released"])
def test_the_owner_is_gone_and_the_next_one_hears_of_the_reset(
    door: Door, card: PlainDaemon, how: str
) -> None:
    owner, other = door(), door()
    mine, its = connected(owner), connected(other)
    assert owner.begin(mine) == pc.SUCCESS
    other.send_begin(its)
    assert other.silent(0.01)
    if how == "killed":
        owner.close()
    else:
        assert owner.ask(pc.RELEASE, "=II", owner.context, 0)[1] == pc.SUCCESS
    assert other.answer_begin() == pc.RESET_CARD
    assert other.reconnect(its) == pc.SUCCESS
    assert other.begin(its) == pc.SUCCESS


def test_a_program_killed_while_it_waits_keeps_nobody(door: Door, card: PlainDaemon) -> None:
    owner, waiting, next_one = door(), door(), door()
    mine, its, other = connected(owner), connected(waiting), connected(next_one)
    assert owner.begin(mine) == pc.SUCCESS
    waiting.send_begin(its)
    next_one.send_begin(other)
    assert waiting.silent(0.01)
    waiting.close()
    assert owner.end(mine) == pc.SUCCESS
    assert next_one.answer_begin() == pc.SUCCESS


# -- reset, removal, dispositions --------------------------------------------------------------


@pytest.mark.parametrize("how", [pc.RESET, pc.UNPOWER])
def test_a_reset_is_told_to_every_other_handle_until_it_reconnects(
    door: Door, card: PlainDaemon, how: int
) -> None:
    first, second = door(), door()
    mine, its = connected(first), connected(second)
    assert first.transmit(mine, SELECT)[0] == pc.SUCCESS
    assert first.reconnect(mine, initialization=how) == pc.SUCCESS
    assert first.transmit(mine, COUNT) == (pc.SUCCESS, b"\x00\x90\x00")
    for _ in range(2):
        assert second.status(its) == second.begin(its) == pc.RESET_CARD
        assert second.end(its) == second.attribute(its, 0x7FFF0003)[0] == pc.RESET_CARD
        assert second.transmit(its, COUNT)[0] == pc.RESET_CARD
    assert second.control(its, 0x42000D48)[0] == pc.SUCCESS
    assert second.reconnect(its) == pc.SUCCESS
    assert second.status(its) == pc.SUCCESS


def test_a_transaction_that_ends_with_a_reset_tells_its_owner_too(
    door: Door, card: PlainDaemon
) -> None:
    client = door()
    handle = connected(client)
    assert client.begin(handle) == client.end(handle, pc.RESET) == pc.SUCCESS
    assert client.status(handle) == pc.RESET_CARD
    assert client.reconnect(handle) == pc.SUCCESS
    assert client.begin(handle) == pc.SUCCESS
    assert client.end(handle, pc.EJECT) == pc.UNSUPPORTED_FEATURE
    assert client.end(handle) == pc.NOT_TRANSACTED
    assert client.end(handle, 4) == pc.INVALID_VALUE


def test_a_card_without_power_is_powered_by_the_next_program(door: Door, card: PlainDaemon) -> None:
    first, second = door(), door()
    mine, its = connected(first), connected(second)
    assert first.disconnect(mine, pc.UNPOWER) == pc.SUCCESS
    assert second.states()[READER][1:] == (OFF, 1, ATR_T0, 0)
    assert second.status(its) == pc.RESET_CARD
    assert second.reconnect(its) == pc.SUCCESS
    assert second.states()[READER][1] == PRESENT
    assert second.transmit(its, COUNT) == (pc.SUCCESS, b"\x00\x90\x00")


def test_dispositions_that_are_none(door: Door, card: PlainDaemon) -> None:
    client = door()
    handle = connected(client)
    assert client.disconnect(handle, 4) == pc.INVALID_VALUE
    assert client.reconnect(handle, initialization=pc.EJECT) == pc.INVALID_VALUE
    assert client.reconnect(handle, mode=0) == pc.INVALID_VALUE
    assert client.reconnect(handle, protocols=0) == pc.PROTO_MISMATCH
    assert client.disconnect(handle, pc.EJECT) == pc.SUCCESS


def test_a_card_that_left_is_told_though_another_is_in(door: Door, card: PlainDaemon) -> None:
    client, other = door(), door()
    handle, its = connected(client), connected(other)
    assert other.begin(its) == pc.SUCCESS
    card.ask("remove 0")
    assert client.states()[READER][1:4] == (ABSENT, 2, b"")
    assert client.status(handle) == client.begin(handle) == pc.REMOVED_CARD
    assert client.reconnect(handle) == pc.NO_SMARTCARD
    assert client.connect(READER)[0] == pc.NO_SMARTCARD
    card.ask("insert 0")
    assert client.status(handle) == pc.REMOVED_CARD
    assert client.reconnect(handle) == pc.SUCCESS
    assert client.begin(handle) == pc.SUCCESS, "the removal has ended the other's transaction"


# -- the card at work --------------------------------------------------------------------------


def test_a_slow_card_keeps_its_next_program_and_no_other_reader(
    door: Door, card: PlainDaemon
) -> None:
    slow, next_one, other = door(), door(), door()
    mine, its = connected(slow), connected(next_one)
    slow.send_transmit(mine, WAIT)
    assert card.ask("working 0") == "ok"
    next_one.send_transmit(its, SELECT)
    assert next_one.silent()
    assert other.states()[READER][2] == 2
    assert other.connect(OTHER, pc.DIRECT, 0)[0] == pc.SUCCESS
    card.ask("finish 0")
    assert slow.answer_transmit() == next_one.answer_transmit() == (pc.SUCCESS, b"\x90\x00")


def test_a_card_pulled_from_under_an_apdu(door: Door, card: PlainDaemon) -> None:
    client = door()
    handle = connected(client)
    client.send_transmit(handle, WAIT)
    assert card.ask("working 0") == "ok"
    card.ask("remove 0")
    assert client.answer_transmit()[0] == pc.NO_SMARTCARD
    assert client.status(handle) == pc.REMOVED_CARD
    card.ask("insert 0")


def test_a_program_killed_at_an_apdu_keeps_nobody(door: Door, card: PlainDaemon) -> None:
    client, other = door(), door()
    handle, its = connected(client), connected(other)
    assert client.begin(handle) == pc.SUCCESS
    client.send_transmit(handle, WAIT)
    assert card.ask("working 0") == "ok"
    client.close()
    other.send_transmit(its, COUNT)
    card.ask("finish 0")
    assert other.answer_transmit()[0] == pc.RESET_CARD


@pytest.mark.parametrize("room", [0, 1, 2, 2**31 - 1])
def test_an_answer_and_its_room(door: Door, card: PlainDaemon, room: int) -> None:
    client = door()
    handle = connected(client)
    expected = (pc.SUCCESS, b"\x90\x00") if room >= 2 else (pc.INSUFFICIENT_BUFFER, b"")
    assert client.transmit(handle, SELECT, room=room) == expected
    assert client.status(handle) == pc.SUCCESS, "nothing more came"


def test_apdus_of_every_size(door: Door, card: PlainDaemon) -> None:
    client = door()
    handle = connected(client)
    for size in (0, 256, 65536):
        rv, answer = client.transmit(handle, long_answer(size), room=65548)
        assert (rv, len(answer)) == (pc.SUCCESS, size + 2)
    assert client.transmit(handle, bytes(65548))[0] == pc.SUCCESS
    assert client.transmit(handle, SELECT, pc.T1)[0] == pc.PROTO_MISMATCH
    assert client.transmit(handle, SELECT, pc.RAW)[0] == pc.SUCCESS


def test_what_a_reader_tells_of_itself(door: Door, card: PlainDaemon) -> None:
    client = door()
    handle = connected(client)
    assert client.attribute(handle, 0x00090303) == (pc.SUCCESS, ATR_T0)
    assert client.attribute(handle, 0x7FFF0003) == (pc.SUCCESS, READER.encode() + b"\0")
    assert client.attribute(handle, 0x00010102)[1] == struct.pack("=I", 0x00010000)
    assert client.attribute(handle, 0x00010100) == (pc.SUCCESS, b"vccid\0")
    assert client.attribute(handle, 0x00010103) == (pc.SUCCESS, b"vccid0\0")
    assert client.attribute(handle, 0x12345678)[0] == pc.UNSUPPORTED_FEATURE
    assert client.set_attribute(handle, 0x7FFF0003, b"x") == pc.UNSUPPORTED_FEATURE
    assert client.control(handle, 0x42000D48, room=5)[0] == pc.INSUFFICIENT_BUFFER
    assert client.control(handle, 0x42330012)[1] == bytes.fromhex("0A 04 00 00 01 00")
    assert client.control(handle, 0x42000001, b"x")[0] == pc.UNSUPPORTED_FEATURE


# -- waiting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("minor", [4, 5, 6])
def test_each_wait_ends_with_one_signal(door: Door, card: PlainDaemon, minor: int) -> None:
    client = door(minor)
    before = client.wait_for_change()[READER]
    assert client.silent()
    card.ask("remove 0")
    assert client.signal() == (client.reader_events(), pc.SUCCESS)
    client.stop()  # it crossed the signal
    after = client.wait_for_change()[READER]
    assert (before[1], after[1]) == (PRESENT, ABSENT) and after[0] == before[0] + 1
    client.stop()
    assert client.signal()[1] == pc.SUCCESS
    client.stop()
    assert client.silent()
    card.ask("insert 0")
    assert client.silent()


def test_a_signal_of_4_6_comes_behind_the_array(door: Door, card: PlainDaemon) -> None:
    client = door(6)
    client.send(pc.WAIT)
    card.ask("remove 0")
    card.ask("insert 0")
    assert client.array()[READER][1] == PRESENT
    assert client.signal()[1] == pc.SUCCESS
    assert client.silent()


@pytest.mark.parametrize("minor", [4, 6])
def test_cancel_comes_by_another_connection(
    daemon: tuple[PlainDaemon, Path], door: Door, minor: int
) -> None:
    client = door(minor)
    client.wait_for_change()
    with RawClient(daemon[1]) as canceller:
        assert canceller.cancel(client.context) == pc.SUCCESS
        assert canceller.cancel(client.context) == pc.SUCCESS
        assert canceller.cancel(client.context ^ 1) == pc.INVALID_HANDLE
    assert client.signal()[1] == pc.CANCELLED
    assert client.silent()


def test_who_uses_a_reader_is_told_to_those_who_wait(door: Door, card: PlainDaemon) -> None:
    watcher, user = door(), door()
    watcher.wait_for_change()
    handle = connected(user)
    watcher.signal()
    assert watcher.wait_for_change()[READER][2] == 1
    user.disconnect(handle)
    watcher.signal()
    assert watcher.states()[READER][2] == 0


def test_readers_come_and_go(door: Door, card: PlainDaemon) -> None:
    client, user = door(5), door()
    handle = connected(user)
    events = client.reader_events()
    client.wait_for_change()
    card.ask("hide 0")
    assert client.signal()[0] == events + 1
    assert list(client.states()) == [OTHER]
    assert user.status(handle) == pc.INVALID_VALUE
    assert user.connect(READER)[0] == pc.UNKNOWN_READER
    assert user.disconnect(handle, pc.RESET) == pc.SUCCESS
    client.wait_for_change()
    card.ask("show 0")
    assert client.signal()[0] == events + 2
    assert list(client.states()) == [READER, OTHER]


def test_a_reader_that_goes_keeps_nobody(door: Door, card: PlainDaemon) -> None:
    working, waiting, leaving, coming = (door() for _ in range(4))
    mine, its, other = connected(working), connected(waiting), connected(leaving)
    assert working.begin(mine) == pc.SUCCESS
    working.send_transmit(mine, WAIT)
    assert card.ask("working 0") == "ok"
    waiting.send_begin(its)
    leaving.send(pc.DISCONNECT, struct.pack("=iII", other, pc.RESET, 0))
    coming.begin_connect(READER)
    assert coming.silent(0.01)
    card.ask("hide 0")
    assert working.answer_transmit()[0] == pc.NO_SMARTCARD
    assert waiting.answer_begin() == pc.INVALID_VALUE
    assert struct.unpack("=iII", leaving.receive(12))[2] == pc.SUCCESS
    assert coming.end_connect()[0] == pc.UNKNOWN_READER
    card.ask("show 0")
    assert coming.connect(READER)[0] == pc.SUCCESS


# -- what none can break -----------------------------------------------------------------------

MALFORMED = {
    "no such command": (0, 0x18, b""),
    "an unused one": (0, 0x03, b""),
    "a length of 4 GiB": (2**32 - 1, pc.TRANSMIT, b""),
    "a struct too short": (11, pc.ESTABLISH, bytes(11)),
    "65,549 bytes of APDU": (32, pc.TRANSMIT, struct.pack("=8I", 1, 1, 16, 65549, 3, 16, 9, 0)),
    "a handle of nobody": (8, pc.STATUS, struct.pack("=iI", 77, 0)),
}


@pytest.mark.parametrize(("size", "command", "body"), MALFORMED.values(), ids=MALFORMED)
def test_what_breaks_the_protocol_ends_that_program_alone(
    door: Door, card: PlainDaemon, size: int, command: int, body: bytes
) -> None:
    client, other = door(), door()
    its = connected(other)
    client.socket.sendall(struct.pack("=II", size, command) + body)
    assert client.hung_up()
    assert other.transmit(its, SELECT)[0] == pc.SUCCESS


def test_connect_without_a_context_is_hung_up_on(daemon: tuple[PlainDaemon, Path]) -> None:
    with RawClient(daemon[1]) as client:
        client.begin_connect(READER)
        assert client.hung_up()


def test_one_byte_at_a_time(door: Door, card: PlainDaemon) -> None:
    client = door()
    handle = connected(client)
    body = struct.pack("=8I", handle, 1, 16, len(SELECT), 3, 16, 258, 0)
    for byte in struct.pack("=II", 32, pc.TRANSMIT) + body + SELECT:
        client.socket.sendall(bytes([byte]))
    assert client.answer_transmit() == (pc.SUCCESS, b"\x90\x00")


def test_requests_in_one_go_are_answered_one_by_one(door: Door, card: PlainDaemon) -> None:
    client = door()
    handle = connected(client)
    body = struct.pack("=8I", handle, 1, 16, len(WAIT), 3, 16, 258, 0)
    wire = struct.pack("=II", 32, pc.TRANSMIT) + body + WAIT
    client.socket.sendall(wire + struct.pack("=IIiI", 8, pc.STATUS, handle, 0))
    assert card.ask("working 0") == "ok"
    assert client.silent()
    card.ask("finish 0")
    assert client.answer_transmit()[0] == pc.SUCCESS
    assert struct.unpack("=iI", client.receive(8)) == (handle, pc.SUCCESS)


def test_half_a_message_holds_nobody_up(door: Door, card: PlainDaemon) -> None:
    halves = [door() for _ in range(20)]
    for number, client in enumerate(halves):
        client.socket.sendall(struct.pack("=II", 152, pc.CONNECT)[: number % 8 + 1])
    other = door()
    assert other.transmit(connected(other), SELECT)[0] == pc.SUCCESS


def conversation(handle: int) -> list[bytes]:
    """What a program says once it is connected, a message each."""
    transmit = struct.pack(
        "=8I",
        handle,
        pc.T0,  # ioSendPciProtocol
        16,  # ioSendPciLength
        len(SELECT),  # cbSendLength
        3,  # ioRecvPciProtocol
        16,  # ioRecvPciLength
        258,  # pcbRecvLength
        0,  # rv
    )
    control = struct.pack("=iIIIII", handle, 0x42000D48, 0, 256, 0, 0)
    reconnect = struct.pack("=6I", handle, pc.SHARED, pc.T0, pc.RESET, 0, 0)
    asked = [
        (pc.BEGIN, struct.pack("=iI", handle, 0), b""),
        (pc.TRANSMIT, transmit, SELECT),
        (pc.CONTROL, control, b""),
        (pc.STATUS, struct.pack("=iI", handle, 0), b""),
        (pc.RECONNECT, reconnect, b""),
        (pc.WAIT, b"", b""),
        (pc.STOP, b"", b""),
        (pc.END, struct.pack("=iII", handle, pc.RESET, 0), b""),
        (pc.DISCONNECT, struct.pack("=iII", handle, pc.UNPOWER, 0), b""),
    ]
    return [
        struct.pack("=II", len(body), command) + body + behind for command, body, behind in asked
    ]


@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("how", ["before", "in its header", "in its middle", "unanswered"])
def test_a_program_killed_at_any_message_leaves_nothing(
    door: Door, card: PlainDaemon, at: int, how: str
) -> None:
    killed, other = door(), door()
    *said, last = conversation(connected(killed))[: at + 1]
    size = {"before": 0, "in its header": 5, "in its middle": len(last) // 2}
    killed.socket.sendall(b"".join(said) + last[: size.get(how, len(last))])
    killed.close()
    deadline = time.monotonic() + 10
    while other.states()[READER][2] != 0:
        assert time.monotonic() < deadline, "its handle is there"
    its = connected(other)
    assert other.begin(its) == pc.SUCCESS
    assert other.transmit(its, SELECT) == (pc.SUCCESS, b"\x90\x00")
    assert other.end(its) == pc.SUCCESS


def test_two_thousand_connections(daemon: tuple[PlainDaemon, Path], card: PlainDaemon) -> None:
    """Nobody of those who were served before is let go of."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with contextlib.ExitStack() as end:
        first = end.enter_context(RawClient(daemon[1]))
        first.establish()
        its = connected(first)
        crowd = [end.enter_context(RawClient(daemon[1])) for _ in range(2000)]
        assert crowd[-1].hung_up()
        assert first.transmit(its, SELECT) == (pc.SUCCESS, b"\x90\x00")


def test_more_programs_than_there_may_be(daemon: tuple[PlainDaemon, Path], door: Door) -> None:
    first = door()
    with contextlib.ExitStack() as end:
        clients = [end.enter_context(RawClient(daemon[1])) for _ in range(PROGRAMS_MAX - 1)]
        assert {client.version()[2] for client in clients} == {pc.SUCCESS}
        told = end.enter_context(RawClient(daemon[1]))
        assert told.version() == (4, 4, pc.NO_MEMORY)
        for _ in range(400):
            end.enter_context(RawClient(daemon[1]))
        assert end.enter_context(RawClient(daemon[1])).hung_up()
        assert first.states()[READER][1] == ABSENT
    deadline = time.monotonic() + 10
    while True:
        with RawClient(daemon[1]) as again:
            if again.receive(0) == b"" and again.version()[2] == pc.SUCCESS:
                break
        assert time.monotonic() < deadline
