# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real daemon as programs without pcscd find it: where, who, over restarts and reloads."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from smartcard import scard

from tests.peers import pcsclite_client as pc
from tests.peers.daemon import Daemon, make_nss_database
from tests.peers.desk import PIN
from tests.peers.pcsc_application import Application
from tests.peers.pcsclite_client import RawClient
from tests.peers.pem import make_pem

CERTS = "cert1,cert2,cert3"
READER = "vccid vccid0 00 00"
SHOWN = "[reader.vccid0]\npcsc = true\n"
NOBODY = 65534
VERIFY_PIN_DIRECT = 0x42330006

#: PIN_VERIFY_STRUCTURE, PC/SC part 10
VERIFY_STRUCTURE = bytes.fromhex(
    "1E"  # bTimerOut
    "1E"  # bTimerOut2
    "02"  # bmFormatString: ASCII
    "08"  # bmPINBlockString
    "00"  # bmPINLengthFormat
    "0804"  # wPINMaxExtraDigit: 4 to 8
    "02"  # bEntryValidationCondition
    "01"  # bNumberMessage
    "0904"  # wLangId
    "00"  # bMsgIndex
    "000000"  # bTeoPrologue
    "0D000000"  # ulDataLength
    "0020000008FFFFFFFFFFFFFFFF"
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "v", settings=SHOWN)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_nss_database(tmp_path_factory.mktemp("nss") / "db")


def door(daemon: Daemon) -> Path:
    return daemon.runtime / "pcscd.comm"


def env(socket: Path) -> dict[str, str]:
    return {**os.environ, "PCSCLITE_CSOCK_NAME": str(socket)}


def established(socket: Path) -> RawClient:
    client = RawClient(socket)
    client.establish()
    return client


def test_attached_at_a_socket_of_its_own_it_is_there_after_a_restart_too(
    daemon: Daemon, tmp_path: Path
) -> None:
    place = tmp_path / "other.comm"
    daemon.ctl("reader", "add", "second")
    said = daemon.ctl("attach", "pcsc", place, "--reader", "second")
    assert said == f"second: attached to pcsc: {place}, 0 programs\n"
    with established(place) as client:
        assert list(client.states()) == ["vccid second 00 00"]
        assert f"{place}, 1 program)" in daemon.ctl("status")
    daemon.stop()
    assert not place.exists() and not door(daemon).exists()
    daemon.start()
    daemon.wait_for(place.exists)
    with established(place) as client, established(door(daemon)) as usual:
        assert list(client.states()) == ["vccid second 00 00"]
        assert list(usual.states()) == [READER]
    daemon.ctl("detach", "pcsc", place, "--reader", "second")
    assert not place.exists()


def test_a_program_that_waits_hears_of_readers_and_of_cards(daemon: Daemon, database: str) -> None:
    with established(door(daemon)) as client:
        client.wait_for_change()
        daemon.ctl("reader", "add", "second")
        daemon.ctl("attach", "pcsc", "--reader", "second")
        assert client.signal()[1] == pc.SUCCESS
        assert list(client.wait_for_change()) == [READER, "vccid second 01 00"]
        daemon.ctl("insert", "second", "--db", database, "--certs", CERTS, "--wait=5")
        assert client.signal()[1] == pc.SUCCESS
        assert client.wait_for_change()["vccid second 01 00"][1] == 0x34
        daemon.ctl("reader", "remove", "second")
        assert client.signal()[1] == pc.SUCCESS
        assert list(client.states()) == [READER]


def test_a_reload_shows_a_reader_and_hides_it(daemon: Daemon) -> None:
    with established(door(daemon)) as client:
        for settings, shown in (("", []), (SHOWN, [READER])):
            client.wait_for_change()
            daemon.settings.write_text(settings)
            os.kill(daemon.pid, signal.SIGHUP)
            assert client.signal()[1] == pc.SUCCESS
            assert list(client.states()) == shown


def test_killed_and_started_again_it_serves_the_same_program(daemon: Daemon, database: str) -> None:
    daemon.ctl("insert", "--db", database, "--certs", CERTS)
    with Application(env(door(daemon))) as program:
        handle, _ = program.connect(READER)
        unaware = [[READER, scard.SCARD_STATE_UNAWARE]]
        ((_, now, _),) = program.must("SCardGetStatusChange", program.context, 0, unaware)[0]
        now &= ~scard.SCARD_STATE_CHANGED
        program.begin("SCardGetStatusChange", program.context, 60_000, [[READER, now]])
        daemon.kill()
        # The last where it was killed with the request unread: the library's word for a reset.
        codes = ("SCARD_F_COMM_ERROR", "SCARD_E_NO_SERVICE", "SCARD_W_SECURITY_VIOLATION")
        assert program.finish()[0] in [getattr(scard, code) for code in codes]
        program.call("SCardReleaseContext", program.context)
        daemon.start()
        program.context = program.must("SCardEstablishContext", scard.SCARD_SCOPE_SYSTEM)[0]
        program.wait_for(READER, scard.SCARD_STATE_PRESENT)
        program.connect(READER)
    assert handle


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who becomes another user")
def test_another_user_is_told_so_and_served_once_everybody_may() -> None:
    ask = (
        "from smartcard import scard;"
        "print(scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)[0] & 0xFFFFFFFF)"
    )
    with contextlib.ExitStack() as end:
        directory = Path(end.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        daemon = end.enter_context(Daemon(directory / "v", settings=SHOWN))

        def nobody() -> str:
            return subprocess.run(
                [sys.executable, "-c", ask],
                user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", env=env(door(daemon)),
                capture_output=True, text=True, timeout=20, check=True,
            ).stdout.strip()  # fmt: skip

        assert nobody() == str(pc.SECURITY_VIOLATION)
        daemon.settings.write_text(f"{SHOWN}[pcsc]\neveryone = true\n")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for(lambda: "settings read again" in daemon.log.read_text())
        assert nobody() == "0"


def test_a_pin_is_typed_on_the_readers_pad(tmp_path: Path) -> None:
    pem, pin = make_pem(tmp_path / "own.pem"), tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    with Daemon(tmp_path / "v", settings=f"{SHOWN}pin_pad = true\n") as daemon:
        daemon.ctl("insert", "--certs", pem, "--pin-file", pin)
        with established(door(daemon)) as client, established(door(daemon)) as other:
            rv, card, _ = client.connect(READER)
            assert rv == pc.SUCCESS
            features = client.control(card, 0x42000D48)[1]
            assert [features[at] for at in range(0, len(features), 6)] == [0x12, 6, 7, 0x0A]
            client.send_control(card, VERIFY_PIN_DIRECT, VERIFY_STRUCTURE)
            shown = daemon.ctl("pin", "enter", "--wait=15", "--pin-file", pin)
            assert shown.startswith("vccid0: ")
            assert client.answer_control() == (pc.SUCCESS, b"\x90\x00")
            # A program that is gone asks for no PIN any more, and keeps nobody.
            client.send_control(card, VERIFY_PIN_DIRECT, VERIFY_STRUCTURE)
            rv, its, _ = other.connect(READER)
            assert rv == pc.SUCCESS
            client.close()
            assert other.transmit(its, bytes.fromhex("00A4040000"))[0] == pc.SUCCESS
