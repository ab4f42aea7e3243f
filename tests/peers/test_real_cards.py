# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vccidctl insert --reader` and `--hardware`: a daemon that follows the cards of a pcscd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import Daemon
from tests.peers.desk import PIN, WRONG_PIN, Desk
from tests.peers.pem import make_pem
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER, Stage
from tests.peers.vpcd import READER, PinCard, Vicc, free_port, vpcd_entry

PATIENCE = 20.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def guest_of(daemon: Daemon, directory: Path) -> tuple[PrivatePcscd, Desk]:
    """A pcscd that sees the daemon's reader, not started, and a desk before it."""
    entry = ReaderEntry("vccid vccid0", f"vccid:{daemon.ifd()}", DRIVER)
    pcscd = PrivatePcscd(directory / "far", [entry])
    return pcscd, Desk(directory / "far-desk", pcscd.env)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def vpcd(tmp_path: Path, port: int) -> Iterator[Daemon]:
    """A daemon on a host whose pcscd has vsmartcard's reader."""
    with (
        PrivatePcscd(tmp_path / "p", [vpcd_entry(tmp_path, port)]) as pcscd,
        Daemon(tmp_path / "d", environment=pcscd.env) as daemon,
    ):
        yield daemon


@pytest.fixture
def chained(desk: Desk, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon on a host whose pcscd has another daemon's card, in a reader of the same name."""
    with Daemon(tmp_path / "second", environment=desk.env) as daemon:
        yield daemon


# -- passed through ------------------------------------------------------------------------------


def test_a_real_card_comes_and_goes(vpcd: Daemon, port: int, tmp_path: Path) -> None:
    pcscd, desk = guest_of(vpcd, tmp_path)
    said = vpcd.ctl("insert", "--reader", "Virtual PCD 00 00")
    assert "no card is in yet" in said
    with pcscd:
        for _ in range(2):
            with Vicc(port):
                until(lambda: vpcd.reader()["card"] is not None)
                until(lambda: b"3b:95:13" in desk.run("opensc-tool", "--atr").stdout)
                desk.say("opensc-tool", "--send-apdu", "00A4000C023F00")
            until(lambda: vpcd.reader()["card"] is None)
    real = vpcd.reader()["real_card"]
    assert (real["reader"], real["emulated"]) == (READER, False)
    assert real["status"].startswith("no card, ")
    assert "passes through the card in Virtual PCD 00 00" in vpcd.ctl("status")


def test_it_is_followed_after_a_restart_until_removed(vpcd: Daemon, port: int) -> None:
    with PinCard(port):
        vpcd.ctl("insert", "--reader", READER)
        # pcscd looks for cards now and then only, and may not have seen this one yet.
        until(lambda: vpcd.reader()["card"] is not None)
        assert vpcd.reader()["card"]["kind"] == "pcsc"
        refused = vpcd.run_ctl("insert", "--reader", READER)
        assert "already holds a card" in refused.stderr
        vpcd.kill()
        vpcd.start()
        until(lambda: vpcd.reader()["card"] is not None)
        vpcd.ctl("remove")
        assert vpcd.reader()["real_card"] is None
        vpcd.stop()
        vpcd.start()
        assert vpcd.reader()["card"] is None
    again = vpcd.run_ctl("insert")
    assert "never had a card" in again.stderr


def test_a_guest_cannot_block_the_card(vpcd: Daemon, port: int, tmp_path: Path) -> None:
    pcscd, desk = guest_of(vpcd, tmp_path)
    wrong = "00200080" + "06" + WRONG_PIN.encode().hex()
    with PinCard(port) as card, pcscd:
        vpcd.ctl("insert", "--reader", READER)
        until(lambda: desk.run("opensc-tool", "--atr").returncode == 0)
        for word in ("SW1=0x63, SW2=0xC2", "SW1=0x63, SW2=0xC1", "SW1=0x69, SW2=0x83"):
            assert word in desk.run("opensc-tool", "--send-apdu", wrong).stdout.decode()
        assert card.tries == 1


def test_a_chain_of_two_daemons_signs(chained: Daemon, tmp_path: Path) -> None:
    pcscd, far = guest_of(chained, tmp_path)
    with pcscd:
        assert "no card" not in chained.ctl("insert", "--reader", "vccid vccid0", "--wait=10")
        assert "No errors" in far.pkcs11("--test")


def test_what_cannot_be_followed(vpcd: Daemon, tmp_path: Path) -> None:
    done = vpcd.run_ctl("insert", "--reader", "Foo")
    assert done.returncode == 1
    assert "no PC/SC reader 'Foo'" in done.stderr
    assert "Virtual PCD 00 00, Virtual PCD 00 01" in done.stderr
    done = vpcd.run_ctl("insert", "--reader", "Virtual PCD")
    assert "2 PC/SC readers could be meant" in done.stderr
    done = vpcd.run_ctl("insert", "--reader", READER, "--hardware")
    assert done.returncode == 2
    done = vpcd.run_ctl("insert", "--hardware", "--atr", "t1")
    assert done.returncode == 2
    secret = tmp_path / "pin"
    secret.write_text(PIN + "\n")
    for option in ("--pin-file", "--password-file"):
        done = vpcd.run_ctl("insert", "--reader", READER, option, str(secret))
        assert done.returncode == 1
        assert "it has its own PIN" in done.stderr
    assert vpcd.reader()["real_card"] is None
    assert vpcd.reader()["card"] is None


def test_its_own_reader_is_refused(tmp_path: Path) -> None:
    """Whatever it is called, and whichever of our readers it is."""
    entries = [
        ReaderEntry("Front desk", f"vccid:{tmp_path}/d/run/vccid0.ifd", DRIVER),
        ReaderEntry("Back desk", f"vccid:{tmp_path}/d/run/second.ifd", DRIVER),
    ]
    with (
        PrivatePcscd(tmp_path / "p", entries) as pcscd,
        Daemon(tmp_path / "d", environment=pcscd.env, settings="[reader.second]\n") as daemon,
    ):
        until(lambda: all(daemon.reader(name)["hosts"] for name in ("vccid0", "second")))
        for name in ("Front desk 00 00", "Back desk 01 00"):
            done = daemon.run_ctl("insert", "vccid0", "--reader", name)
            assert f"{name} is a reader of this daemon" in done.stderr
        done = daemon.run_ctl("insert", "vccid0", "--reader", "desk")
        assert "no PC/SC reader 'desk'" in done.stderr
        done = daemon.run_ctl("insert", "vccid0", "--hardware")
        assert "there is no real PC/SC reader" in done.stderr
        assert "none but vccid's own" in done.stderr


def test_its_own_reader_is_not_followed_where_another_was(tmp_path: Path, port: int) -> None:
    """After a restart of pcscd a name may be another reader's."""
    theirs, entry = tmp_path / "p", vpcd_entry(tmp_path, port)
    with (
        PrivatePcscd(theirs, [entry]) as pcscd,
        Daemon(tmp_path / "d", environment=pcscd.env) as daemon,
        PinCard(port),
    ):
        daemon.ctl("insert", "--reader", READER)
        until(lambda: daemon.reader()["card"] is not None)
        pcscd.stop()
        ours = ReaderEntry(entry.name, f"vccid:{daemon.ifd()}", DRIVER)
        with PrivatePcscd(theirs, [ours]):
            until(lambda: "is a reader of this daemon" in daemon.reader()["real_card"]["status"])
            assert daemon.reader()["card"] is None


def test_a_vccid_reader_without_its_daemon_is_waited_for(tmp_path: Path) -> None:
    place = tmp_path / "other"
    entry = ReaderEntry("far", f"vccid:{place}/run/vccid0.ifd", DRIVER)
    with (
        PrivatePcscd(tmp_path / "p", [entry]) as pcscd,
        Daemon(tmp_path / "d", environment=pcscd.env) as daemon,
    ):
        done = daemon.run_ctl("insert", "--reader", "far 00 00")
        assert "no vccid serves far 00 00" in done.stderr
        with Daemon(place) as other:
            card = make_pem(tmp_path / "card.pem")
            other.ctl("insert", "--certs", card)
            until(lambda: daemon.run_ctl("insert", "--reader", "far").returncode == 0)
            until(lambda: daemon.reader()["card"] is not None)
        until(lambda: daemon.reader()["card"] is None)


def test_without_a_pcscd(tmp_path: Path) -> None:
    nowhere = {"PCSCLITE_CSOCK_NAME": str(tmp_path / "nothing")}
    with Daemon(tmp_path / "d", environment=nowhere) as daemon:
        done = daemon.run_ctl("insert", "--reader", "Foo")
        assert "none; does pcscd run?" in done.stderr


# -- emulated ------------------------------------------------------------------------------------


def test_an_emulated_card_follows_the_real_one(
    stage: Stage, desk: Desk, database: object, chained: Daemon, tmp_path: Path
) -> None:
    pcscd, far = guest_of(chained, tmp_path)
    with pcscd:
        said = chained.ctl("insert", "--hardware", "--wait=10")
        assert "is in" in said
        assert "No errors" in far.pkcs11("--test", pin=PIN)
        assert "No errors" in desk.pkcs11("--test")  # this host goes on using the real one
        serial = chained.reader()["card"]["serial"]
        stage.daemon.ctl("remove")
        until(lambda: chained.reader()["card"] is None)
        stage.daemon.ctl("insert")
        until(lambda: chained.reader()["card"] is not None)
        assert chained.reader()["card"]["serial"] == serial
        assert "No errors" in far.pkcs11("--test", pin=PIN)
        assert chained.reader()["real_card"]["emulated"] is True
        chained.stop()
        chained.start()
        until(lambda: chained.reader()["card"] is not None)


def test_named_by_its_label(chained: Daemon, desk: Desk) -> None:
    listed = desk.say("pkcs11-tool", "--list-slots")
    label = next(line for line in listed.splitlines() if "token label" in line).split(":")[1]
    chained.ctl("insert", "--hardware", label.strip())
    assert chained.reader()["real_card"]["reader"] == "vccid vccid0 00 00"


def test_no_token_of_that_name(chained: Daemon) -> None:
    done = chained.run_ctl("insert", "--hardware", "Foo")
    assert "no PC/SC reader 'Foo'" in done.stderr
    done = chained.run_ctl("insert", "--hardware", "pkcs11:token=Foo?module-name=opensc-pkcs11")
    assert "no token fits pkcs11:token=Foo" in done.stderr
