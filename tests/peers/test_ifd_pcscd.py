# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real pcscd with the driver, a daemon that lives and dies, and applications that notice."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from smartcard import scard

from tests.peers.pcsc_application import Application
from tests.peers.plain_card import ATR_T0, ATR_T1, COUNT, SELECT, WAIT, long_answer, pattern
from tests.peers.plain_daemon import PlainDaemon
from tests.peers.private_pcscd import PrivatePcscd
from vccid.iso7816 import status

READER = "vccid vccid0 00 00"
SECOND = "vccid vccid1 01 00"  # the library's second

PRESENT = scard.SCARD_STATE_PRESENT
EMPTY = scard.SCARD_STATE_EMPTY
REMOVED = scard.SCARD_W_REMOVED_CARD
NO_CARD = scard.SCARD_E_NO_SMARTCARD


def insert(daemon: PlainDaemon, application: Application) -> tuple[int, int]:
    """A card in the first reader, and a handle to it."""
    daemon.ask("insert 0")
    application.wait_for(READER, PRESENT)
    return application.connect(READER)


def test_applications_see_the_card_come_and_go(
    daemon: PlainDaemon, application: Application
) -> None:
    application.wait_for(READER, EMPTY)
    daemon.ask("insert 0")
    application.wait_for(READER, PRESENT)
    assert application.state(READER)[1] == ATR_T0
    card = application.connect(READER)
    assert card[1] == scard.SCARD_PROTOCOL_T0
    assert application.transmit(card, SELECT) == status.SUCCESS
    daemon.ask("remove 0")
    application.wait_for(READER, EMPTY)
    assert application.call("SCardTransmit", *card, list(SELECT))[0] == REMOVED


def test_seen_means_that_applications_can_know(
    daemon: PlainDaemon, application: Application
) -> None:
    """`vccidctl insert --wait` returns when this does; nothing may have to be waited for."""
    daemon.ask("attached 0")
    for _ in range(20):
        daemon.ask("insert 0")
        assert daemon.ask("seen 0") == "True"
        assert application.state(READER)[0] & PRESENT
        daemon.ask("remove 0")
        assert daemon.ask("seen 0") == "True"
        assert application.state(READER)[0] & EMPTY


def test_an_exchange_of_cards_ends_the_old_handle(
    daemon: PlainDaemon, application: Application
) -> None:
    for _ in range(10):
        card = insert(daemon, application)
        daemon.ask("exchange 0")
        assert daemon.ask("seen 0") == "True"
        assert application.state(READER)[1] == ATR_T1
        assert application.call("SCardTransmit", *card, list(SELECT))[0] == REMOVED
        new = application.connect(READER)
        assert new[1] == scard.SCARD_PROTOCOL_T1
        assert application.transmit(new, COUNT) == b"\x00" + status.SUCCESS
        application.must("SCardDisconnect", new[0], scard.SCARD_LEAVE_CARD)
        daemon.ask("remove 0")
        application.wait_for(READER, EMPTY)


def test_removal_in_the_middle_of_an_apdu(daemon: PlainDaemon, application: Application) -> None:
    card = insert(daemon, application)
    application.begin("SCardTransmit", *card, list(WAIT))
    daemon.ask("working 0")
    daemon.ask("remove 0")
    assert application.finish()[0] in (NO_CARD, REMOVED)
    application.wait_for(READER, EMPTY)
    # A failed SCardTransmit makes pcscd call the reader empty a moment before its own thread, which
    # looks for cards, tells the connections that theirs is gone.
    while (result := application.call("SCardTransmit", *card, list(SELECT))[0]) == NO_CARD:
        time.sleep(0.01)
    assert result == REMOVED


def test_an_exchange_in_the_middle_of_an_apdu(
    daemon: PlainDaemon, application: Application
) -> None:
    for _ in range(5):
        card = insert(daemon, application)
        application.begin("SCardTransmit", *card, list(WAIT))
        daemon.ask("working 0")
        daemon.ask("exchange 0")
        assert application.finish()[0] in (NO_CARD, REMOVED)
        assert daemon.ask("seen 0") == "True"
        state, atr = application.state(READER)
        assert (state & PRESENT, atr) == (PRESENT, ATR_T1)
        assert application.call("SCardTransmit", *card, list(SELECT))[0] == REMOVED
        daemon.ask("remove 0")
        application.wait_for(READER, EMPTY)


def test_a_slow_answer_and_the_longest(daemon: PlainDaemon, application: Application) -> None:
    card = insert(daemon, application)
    application.begin("SCardTransmit", *card, list(WAIT))
    daemon.ask("working 0")
    time.sleep(1.2)  # past the first BUSY
    daemon.ask("finish 0")
    assert bytes(application.finish()[1][0]) == status.SUCCESS
    for size in (256, 65536):
        assert application.transmit(card, long_answer(size)) == pattern(size) + status.SUCCESS


def test_reset_and_unpower_begin_a_new_session(
    daemon: PlainDaemon, application: Application
) -> None:
    card = insert(daemon, application)
    for disposition in (scard.SCARD_RESET_CARD, scard.SCARD_UNPOWER_CARD):
        application.transmit(card, SELECT)
        assert application.transmit(card, COUNT) == b"\x01" + status.SUCCESS
        both = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        application.must("SCardReconnect", card[0], scard.SCARD_SHARE_SHARED, both, disposition)
        assert application.transmit(card, COUNT) == b"\x00" + status.SUCCESS


def test_the_daemon_is_killed_in_a_transaction_and_started_again(
    daemon: PlainDaemon, application: Application
) -> None:
    for _ in range(3):
        card = insert(daemon, application)
        application.must("SCardBeginTransaction", card[0])
        application.transmit(card, SELECT)
        daemon.kill()
        application.wait_for(READER, EMPTY)
        assert application.call("SCardTransmit", *card, list(SELECT))[0] == REMOVED
        application.call("SCardDisconnect", card[0], scard.SCARD_LEAVE_CARD)
        daemon.start()
        daemon.ask("insert 0")
        application.wait_for(READER, PRESENT)
        new = application.connect(READER)
        assert application.transmit(new, COUNT) == b"\x00" + status.SUCCESS
        application.must("SCardDisconnect", new[0], scard.SCARD_LEAVE_CARD)
        daemon.ask("remove 0")
        application.wait_for(READER, EMPTY)


def test_the_daemon_is_killed_in_the_middle_of_an_apdu(
    daemon: PlainDaemon, application: Application
) -> None:
    card = insert(daemon, application)
    application.begin("SCardTransmit", *card, list(WAIT))
    daemon.ask("working 0")
    daemon.kill()
    assert application.finish()[0] in (NO_CARD, REMOVED)
    application.wait_for(READER, EMPTY)


def test_a_stopped_daemon_empties_the_reader_until_it_goes_on(
    daemon: PlainDaemon, application: Application
) -> None:
    card = insert(daemon, application)
    daemon.signal(signal.SIGSTOP)
    assert application.call("SCardTransmit", *card, list(SELECT))[0] in (NO_CARD, REMOVED)
    application.wait_for(READER, EMPTY)
    daemon.signal(signal.SIGCONT)
    application.wait_for(READER, PRESENT)
    assert application.transmit(application.connect(READER), COUNT) == b"\x00" + status.SUCCESS


def _answer_with(listener: socket.socket, garbage: bytes) -> None:
    """Accept whoever comes, say `garbage` and hang up; ends when the listener is closed."""
    with suppress(OSError):
        while True:
            peer, _ = listener.accept()
            with peer, suppress(OSError):
                peer.settimeout(5)
                peer.recv(100)
                peer.sendall(garbage)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\x01", b"\xff" * 70000, b"\x01\x00\xff\xff\xff\xffVCCIDIFD", b"220 mail ESMTP\r\n"],
    ids=["nothing", "one byte", "noise", "a 4 GiB length", "text"],
)
def test_another_program_at_the_socket_and_then_the_daemon(
    daemon: PlainDaemon, application: Application, paths: list[Path], garbage: bytes
) -> None:
    insert(daemon, application)
    daemon.kill()
    paths[0].unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths[0]))
        listener.listen()
        impostor = threading.Thread(target=_answer_with, args=(listener, garbage))
        impostor.start()
        application.wait_for(READER, EMPTY)
        time.sleep(0.5)  # two more attempts of the driver
        assert application.state(READER)[0] & EMPTY
        listener.shutdown(socket.SHUT_RDWR)
        impostor.join()
    daemon.start()
    daemon.ask("insert 0")
    application.wait_for(READER, PRESENT)


# SIGALRM is what pcscd --auto-exit sends itself a minute after its last client.
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGALRM])
def test_pcscd_is_started_again_and_the_card_is_still_there(
    daemon: PlainDaemon, pcscd: PrivatePcscd, number: signal.Signals
) -> None:
    with Application(pcscd.env) as application:
        insert(daemon, application)
    pcscd.stop(number)
    assert daemon.ask("seen 0") == "True"  # nobody is left who had to see
    pcscd.start()
    with Application(pcscd.env) as application:
        application.wait_for(READER, PRESENT)
        assert application.transmit(application.connect(READER), COUNT) == b"\x00" + status.SUCCESS
    assert f"pid {pcscd.pid}" in daemon.ask("hosts 0")


def test_one_readers_work_does_not_hold_up_the_other(
    daemon: PlainDaemon, pcscd: PrivatePcscd, application: Application
) -> None:
    card = insert(daemon, application)
    application.begin("SCardTransmit", *card, list(WAIT))
    daemon.ask("working 0")
    with Application(pcscd.env) as other:
        daemon.ask("insert 1")
        other.wait_for(SECOND, PRESENT)
        second = other.connect(SECOND)
        assert other.transmit(second, SELECT) == status.SUCCESS
        daemon.ask("remove 1")
        other.wait_for(SECOND, EMPTY)
    daemon.ask("finish 0")
    assert bytes(application.finish()[1][0]) == status.SUCCESS


def test_two_applications_take_turns_by_transactions(
    daemon: PlainDaemon, pcscd: PrivatePcscd, application: Application
) -> None:
    card = insert(daemon, application)
    with Application(pcscd.env) as other:
        theirs = other.connect(READER)
        for turn in range(10):
            application.must("SCardBeginTransaction", card[0])
            other.begin("SCardBeginTransaction", theirs[0])
            application.transmit(card, SELECT)
            assert application.transmit(card, COUNT) == bytes([2 * turn + 1]) + status.SUCCESS
            application.must("SCardEndTransaction", card[0], scard.SCARD_LEAVE_CARD)
            assert other.finish()[0] == scard.SCARD_S_SUCCESS
            other.transmit(theirs, SELECT)
            assert other.transmit(theirs, COUNT) == bytes([2 * turn + 2]) + status.SUCCESS
            other.must("SCardEndTransaction", theirs[0], scard.SCARD_LEAVE_CARD)


def test_what_the_reader_says_of_itself(daemon: PlainDaemon, application: Application) -> None:
    card, _ = insert(daemon, application)

    def attribute(number: int) -> bytes:
        return bytes(application.must("SCardGetAttrib", card, number)[0])

    assert attribute(scard.SCARD_ATTR_VENDOR_NAME) == b"vccid\0"
    assert attribute(scard.SCARD_ATTR_VENDOR_IFD_SERIAL_NO) == b"vccid0\0"
    assert attribute(scard.SCARD_ATTR_ATR_STRING) == ATR_T0
    features = bytes(application.must("SCardControl", card, 0x42000D48, [])[0])
    assert (
        features
        == bytes.fromhex(
            "12"  # FEATURE_GET_TLV_PROPERTIES, and nothing else
            "04"  # length
            "42330012"  # control code
        )
    )
    properties = bytes(application.must("SCardControl", card, 0x42330012, [])[0])
    assert (
        properties
        == bytes.fromhex(
            "0A"  # dwMaxAPDUDataSize
            "04"  # length
            "00000100"  # 65,536
        )
    )
    refused = application.call("SCardControl", card, 0x42330006, [1, 2, 3])[0]
    assert refused & 0xFFFFFFFF == 0x8010001F  # SCARD_E_UNSUPPORTED_FEATURE of pcsc-lite
