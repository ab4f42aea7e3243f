# SPDX-License-Identifier: LGPL-2.1-or-later
"""pcscd's own libccidtwin drives a reader at a pseudo-terminal: nothing of ours is on its side."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from smartcard import scard

from tests.peers.daemon import Daemon
from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.libcacard import Database
from tests.peers.pcsc_application import Application
from tests.peers.pem import make_pem
from tests.peers.plain_card import ATR_T0, ATR_T1, COUNT, SELECT, WAIT, long_answer, pattern
from tests.peers.plain_daemon import PlainDaemon
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from vccid.iso7816 import status
from vccid.iso7816.atr import CAC_T1_ATR

TWIN = Path("/usr/lib/pcsc/drivers/serial/libccidtwin.so")
READER = "twin 00 00"

PRESENT = scard.SCARD_STATE_PRESENT
EMPTY = scard.SCARD_STATE_EMPTY


def pcscd_at(directory: Path, *devices: str) -> PrivatePcscd:
    """A pcscd with the readers twin, twin1 … at these devices, and Debian's drivers."""
    names = ["twin", *(f"twin{number}" for number in range(1, len(devices)))]
    entries = [ReaderEntry(name, device, TWIN) for name, device in zip(names, devices, strict=True)]
    return PrivatePcscd(directory / "pcscd", entries, usb=True)


# --- cards of certificates, OpenSC ---------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, database: Database) -> Iterator[Desk]:
    """A pcscd with two readers: in the first a card that speaks T=0, in the second T=1."""
    directory = tmp_path_factory.mktemp("two")
    link = directory / "second-reader"
    card = ("--db", f"sql:{database.directory}", "--certs", "cert1,cert2,cert3")
    with Daemon(directory / "v") as daemon:
        daemon.ctl("reader", "add", "second")
        told = daemon.ctl("attach", "pty")
        assert str(daemon.runtime / "vccid0.tty") in told
        daemon.ctl("attach", "pty", link, "--reader", "second")
        daemon.ctl("insert", *card, "--atr", "cac")
        daemon.ctl("insert", "second", *card, "--atr", "t1")
        with pcscd_at(directory, str(daemon.runtime / "vccid0.tty"), str(link)) as pcscd:
            yield Desk(directory / "desk", pcscd.env)
            assert pcscd.alive(), pcscd.log_tail()


def opensc_test(desk: Desk, slot: int) -> str:
    return desk.pkcs11("--test", "--slot-index", str(slot))


@pytest.mark.parametrize(("slot", "atr"), [(0, ATR_T0), (1, CAC_T1_ATR)], ids=["T=0", "T=1"])
def test_opensc_tests_the_card(two: Desk, slot: int, atr: bytes) -> None:
    shown = two.say("opensc-tool", "--reader", str(slot), "--atr", "--name")
    if atr == CAC_T1_ATR:
        assert atr.hex(":") in shown
    assert "Common Access Card (CAC)" in shown
    assert opensc_test(two, slot).splitlines()[-1] == "No errors"


def test_two_readers_at_once(two: Desk) -> None:
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda slot: opensc_test(two, slot), (0, 1, 0, 1)))
    assert all(text.splitlines()[-1] == "No errors" for text in said)


@pytest.mark.parametrize("atr", ["cac", "t1"])
def test_a_pin_is_typed_on_the_readers_pad(tmp_path: Path, atr: str) -> None:
    """libccidtwin has a PIN pad where reader.conf calls the reader a GemPC PinPad."""
    pem, pin = make_pem(tmp_path / "own.pem"), tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    settings = "[reader.vccid0]\npin_pad = true\n"
    with Daemon(tmp_path / "v", settings=settings) as daemon:
        daemon.ctl("attach", "pty")
        daemon.ctl("insert", "--certs", pem, "--pin-file", pin, "--atr", atr)
        with pcscd_at(tmp_path, f"{daemon.runtime / 'vccid0.tty'}:GemPCPinPad") as pcscd:
            desk = Desk(tmp_path / "desk", pcscd.env)
            process = subprocess.Popen(
                ["pkcs11-tool", "--module", OPENSC_MODULE, "--login", "--test"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, env=desk.env,
            )  # fmt: skip
            try:
                daemon.ctl("pin", "enter", "--wait=15", "--pin-file", pin)
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()
                process.wait()
            assert process.returncode == 0, said
            assert said.splitlines()[-1] == "No errors"


# --- plain cards, and what happens to a line -----------------------------------------------------


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vccid-pty-") as path:
        yield Path(path)


@pytest.fixture
def daemon(directory: Path) -> Iterator[PlainDaemon]:
    with PlainDaemon([directory / "a.tty"]) as daemon:
        yield daemon


@pytest.fixture
def pcscd(directory: Path, daemon: PlainDaemon) -> Iterator[PrivatePcscd]:
    with pcscd_at(directory, str(directory / "a.tty")) as pcscd:
        daemon.ask("attached 0")
        yield pcscd


@pytest.fixture
def application(pcscd: PrivatePcscd) -> Iterator[Application]:
    with Application(pcscd.env) as application:
        yield application


def insert(daemon: PlainDaemon, application: Application, verb: str = "insert") -> tuple[int, int]:
    daemon.ask(f"{verb} 0")
    application.wait_for(READER, PRESENT)
    return application.connect(READER)


def test_cards_come_and_go(daemon: PlainDaemon, application: Application) -> None:
    for verb, atr, protocol in (
        ("insert", ATR_T0, scard.SCARD_PROTOCOL_T0),
        ("insert-t1", ATR_T1, scard.SCARD_PROTOCOL_T1),
    ):
        card = insert(daemon, application, verb)
        assert card[1] == protocol
        assert application.state(READER)[1] == atr
        assert application.transmit(card, SELECT) == status.SUCCESS
        daemon.ask("remove 0")
        assert daemon.ask("seen 0") == "True"
        application.wait_for(READER, EMPTY)
        assert application.call("SCardTransmit", *card, list(SELECT))[0] != 0


def test_an_exchange_of_cards_ends_the_old_handle(
    daemon: PlainDaemon, application: Application
) -> None:
    card = insert(daemon, application)
    daemon.ask("exchange 0")
    assert daemon.ask("seen 0") == "True"
    assert application.call("SCardTransmit", *card, list(SELECT))[0] != 0
    application.wait_for(READER, PRESENT)
    assert application.connect(READER)[1] == scard.SCARD_PROTOCOL_T1


def test_t1_carries_the_longest_answer(daemon: PlainDaemon, application: Application) -> None:
    card = insert(daemon, application, "insert-t1")
    for size in (0, 252, 253, 65536):
        assert application.transmit(card, long_answer(size)) == pattern(size) + status.SUCCESS


def test_t0_gives_a_long_answer_in_parts(daemon: PlainDaemon, application: Application) -> None:
    card = insert(daemon, application)
    answer = application.transmit(card, long_answer(300))
    assert answer[-2:] == status.bytes_available(44)
    rest = application.transmit(card, bytes.fromhex("00C000002C"))
    assert answer[:-2] + rest == pattern(300) + status.SUCCESS


@pytest.mark.parametrize("verb", ["insert", "insert-t1"])
def test_a_slow_card_outlives_libccids_patience(
    daemon: PlainDaemon, application: Application, verb: str
) -> None:
    card = insert(daemon, application, verb)
    application.begin("SCardTransmit", *card, list(WAIT))
    daemon.ask("working 0")
    time.sleep(5)  # with T=1 and this ATR it is less than four seconds
    daemon.ask("finish 0")
    assert bytes(application.finish()[1][0]) == status.SUCCESS
    assert application.transmit(card, SELECT) == status.SUCCESS


@pytest.mark.parametrize("verb", ["insert", "insert-t1"])
def test_removal_in_the_middle_of_a_command(
    daemon: PlainDaemon, application: Application, verb: str
) -> None:
    card = insert(daemon, application, verb)
    application.begin("SCardTransmit", *card, list(WAIT))
    daemon.ask("working 0")
    daemon.ask("remove 0")
    assert application.finish()[0] != 0
    application.wait_for(READER, EMPTY)
    card = insert(daemon, application, verb)
    assert application.transmit(card, COUNT) == b"\x00" + status.SUCCESS


def test_a_reset_begins_a_new_session(daemon: PlainDaemon, application: Application) -> None:
    card = insert(daemon, application, "insert-t1")
    application.transmit(card, SELECT)
    assert application.transmit(card, COUNT) == b"\x01" + status.SUCCESS
    both = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
    application.must(
        "SCardReconnect", card[0], scard.SCARD_SHARE_SHARED, both, scard.SCARD_RESET_CARD
    )
    assert application.transmit(card, COUNT) == b"\x00" + status.SUCCESS


def test_somebodys_garbage_does_not_disturb(
    daemon: PlainDaemon, application: Application, directory: Path
) -> None:
    card = insert(daemon, application, "insert-t1")
    application.transmit(card, SELECT)
    with open(os.open(directory / "a.tty", os.O_RDWR | os.O_NOCTTY), "wb", buffering=0) as line:
        for garbage in (b"hello\r\n", b"\x03", b"\x03\x06\x6f\x10\x00\x00\x00"):
            line.write(garbage)
            assert application.transmit(card, COUNT) == b"\x01" + status.SUCCESS


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_pcscd_is_started_again(
    daemon: PlainDaemon, pcscd: PrivatePcscd, how: signal.Signals
) -> None:
    for _ in range(2):
        with Application(pcscd.env) as application:
            card = insert(daemon, application, "insert-t1")
            application.transmit(card, SELECT)
            application.begin("SCardTransmit", *card, list(WAIT))
            daemon.ask("working 0")
            pcscd.stop(how)
        pcscd.start()
        daemon.ask("attached 0")
        with Application(pcscd.env) as application:
            application.wait_for(READER, PRESENT)
            card = application.connect(READER)
            assert application.transmit(card, COUNT) == b"\x00" + status.SUCCESS
            daemon.ask("remove 0")
            application.wait_for(READER, EMPTY)


def test_the_daemon_is_killed_and_started_again(
    daemon: PlainDaemon, pcscd: PrivatePcscd, directory: Path
) -> None:
    """pcscd opens a serial reader once, when it starts: so it is started again too."""
    with Application(pcscd.env) as application:
        card = insert(daemon, application)
        daemon.kill()
        assert application.call("SCardTransmit", *card, list(SELECT))[0] != 0
    left = os.readlink(directory / "a.tty")
    assert not Path(left).exists()
    daemon.start()
    pcscd.stop()
    pcscd.start()
    daemon.ask("attached 0")
    with Application(pcscd.env) as application:
        card = insert(daemon, application)
        assert application.transmit(card, SELECT) == status.SUCCESS


def test_what_was_attached_is_attached_again(tmp_path: Path) -> None:
    with Daemon(tmp_path / "v") as daemon:
        daemon.ctl("attach", "pty")
        daemon.ctl("attach", "pty", tmp_path / "other")
        daemon.kill()
        daemon.start()
        daemon.wait_for(lambda: (tmp_path / "other").exists())
        assert (daemon.runtime / "vccid0.tty").exists()
        again = daemon.run_ctl("attach", "pty")
        assert again.returncode == 1 and "is attached to pty already" in again.stderr
        daemon.ctl("detach", "pty")
        daemon.ctl("detach", "pty", tmp_path / "other")
        with contextlib.suppress(FileNotFoundError):
            pytest.fail(f"left: {os.readlink(tmp_path / 'other')}")
