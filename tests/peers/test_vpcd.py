# SPDX-License-Identifier: LGPL-2.1-or-later
"""vsmartcard's own vpcd in Debian's pcscd, and its vicc: both ends of the protocol are theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.daemon import Daemon
from tests.peers.desk import Desk
from tests.peers.libcacard import Database
from tests.peers.pcsc_client import PcscClient
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER
from tests.peers.vpcd import Vicc, free_port, vpcd_entry
from vccid.iso7816 import status

#: SELECT of the master file, no answer wanted: vicc 0.8 ends where one is.
SELECT_MF = bytes.fromhex("00 A4 00 0C 02 3F 00")


@pytest.fixture
def port() -> int:
    return free_port()


class Far:
    """A pcscd whose reader is vpcd, and a daemon of ours whose card is in it."""

    def __init__(self, directory: Path, port: int) -> None:
        self.daemon = Daemon(directory / "v")
        self.pcscd = PrivatePcscd(directory / "p", [vpcd_entry(directory, port)])
        self.desk = Desk(directory / "desk", self.pcscd.env)

    def wait_for(self, presence: str) -> None:
        """Until pcscd says whether there is a card."""
        self.daemon.wait_for(
            lambda: f"  {presence} " in self.desk.run("opensc-tool", "-l").stdout.decode()
        )


@pytest.fixture
def far(tmp_path: Path, port: int) -> Iterator[Far]:
    far = Far(tmp_path, port)
    with far.daemon, far.pcscd:
        far.daemon.ctl("attach", "vpicc", f"127.0.0.1:{port}")
        yield far


def test_our_card_in_somebody_s_vpcd(far: Far, database: Database) -> None:
    card = ("--db", f"sql:{database.directory}", "--certs", "cert1,cert2,cert3")
    far.daemon.ctl("insert", *card)
    far.wait_for("Yes")
    assert "Common Access Card (CAC)" in far.desk.say("opensc-tool", "--name")
    assert far.desk.pkcs11("--test").splitlines()[-1] == "No errors"
    assert "vpicc (attached)" in far.daemon.ctl("status")
    # Each returns when vpcd has noticed.
    far.daemon.ctl("remove", "--wait=10")
    far.wait_for("No")
    far.daemon.ctl("insert", *card, "--atr", "t1", "--wait=10")
    far.wait_for("Yes")
    assert far.desk.pkcs11("--test").splitlines()[-1] == "No errors"


def test_it_comes_back_after_a_restart_of_either(far: Far, database: Database) -> None:
    far.daemon.ctl("insert", "--db", f"sql:{database.directory}", "--certs", "cert1")
    far.wait_for("Yes")
    far.pcscd.stop()
    far.pcscd.start()
    far.wait_for("Yes")
    far.daemon.stop()
    far.wait_for("No")
    far.daemon.start()
    far.wait_for("Yes")
    far.daemon.ctl("detach", "vpicc", far.daemon.reader("vccid0")["frontends"][-1]["address"])
    far.wait_for("No")


def test_vicc_in_a_reader_of_ours(tmp_path: Path, port: int) -> None:
    settings = f'[far_cards]\nvpcd = "127.0.0.1:{port}"\n'
    with Daemon(tmp_path / "v", settings=settings) as daemon:
        assert f"listening for far cards at 127.0.0.1:{port}: nobody" in daemon.ctl("status")
        entry = ReaderEntry("far", f"vccid:{daemon.ifd('far0')}", DRIVER)
        with PrivatePcscd(tmp_path / "p", [entry]) as pcscd:
            desk = Desk(tmp_path / "desk", pcscd.env)

            def listed() -> str:
                return desk.run("opensc-tool", "-l").stdout.decode()

            with Vicc(port):
                daemon.wait_for(lambda: "  Yes " in listed())
                assert daemon.reader("far0")["far_card"]["name"] == "vicc"
                with PcscClient(pcscd.env) as application:
                    assert application.transmit(SELECT_MF) == status.SUCCESS
            daemon.wait_for(lambda: "  Yes " not in listed())


def test_two_vicc_are_two_readers(tmp_path: Path, port: int) -> None:
    settings = f'[far_cards]\nvpcd = "127.0.0.1:{port}"\nreaders = 2\n'

    def names(daemon: Daemon) -> set[str]:
        return {reader["name"] for reader in daemon.ctl_json("status")["readers"]}

    with Daemon(tmp_path / "v", settings=settings) as daemon:
        with Vicc(port):
            daemon.wait_for(lambda: "far0" in names(daemon))
            with Vicc(port):
                daemon.wait_for(lambda: {"far0", "far1"} <= names(daemon))
            daemon.wait_for(lambda: "far1" not in names(daemon))
            assert "far0" in names(daemon)
        daemon.wait_for(lambda: "far0" not in names(daemon))


def test_a_card_of_ours_through_both(tmp_path: Path, database: Database) -> None:
    """vccid's card side dials vccid's reader side, and the card is the same."""
    place = f"127.0.0.1:{free_port()}"
    settings = f'[far_cards]\nvpcd = "{place}"\n'
    with Daemon(tmp_path / "near", settings=settings) as near, Daemon(tmp_path / "away") as away:
        away.ctl("attach", "vpicc", place)
        away.ctl("insert", "--db", f"sql:{database.directory}", "--certs", "cert1,cert2,cert3")
        near.wait_for(lambda: near.run_ctl("card", "info", "far0").returncode == 0)
        assert near.ctl_json("card", "info", "far0")["atr"] == away.ctl_json("card", "info")["atr"]
        entry = ReaderEntry("far", f"vccid:{near.ifd('far0')}", DRIVER)
        with PrivatePcscd(tmp_path / "p", [entry]) as pcscd:
            desk = Desk(tmp_path / "desk", pcscd.env)
            # A pcscd that begins asks for the card only after it has shown the reader.
            near.wait_for(lambda: b"Yes" in desk.run("opensc-tool", "--list-readers").stdout)
            assert desk.pkcs11("--test").splitlines()[-1] == "No errors"
