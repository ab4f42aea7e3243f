# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every conversation over each door that needs no guest, and with libcacard itself."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conversations import piv
from tests.conversations.cac import CONVERSATIONS
from tests.conversations.doors import (
    DRIVER,
    FAR,
    FAR_VPCD,
    LIBCACARD,
    OWN_PCSC,
    PTY,
    RELAYED,
    VPCD,
    Door,
    hold,
    note,
)  # fmt: skip
from tests.conversations.pcsc import hold_by_pcsc
from tests.peers.daemon import BIN, Daemon
from tests.peers.desk import PIN
from tests.peers.libcacard import POWER_ON, Database, Libcacard
from tests.peers.piv import Issued
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER as LIBRARY
from tests.peers.test_serial_pty import pcscd_at
from tests.peers.vpcd import free_port, vpcd_entry

Record = Callable[[str, object], None]


class NearLibcacard:
    """libcacard's card."""

    def __init__(self, card: Libcacard) -> None:
        self.pin = PIN.encode()
        self._card = card

    def power_on(self) -> bytes:
        return self._card.transmit([POWER_ON])[0]

    def transmit(self, command: bytes) -> bytes:
        return self._card.transmit([command])[0]

    def remove(self) -> None:
        raise NotImplementedError("the door says so")

    insert = remove


def test_libcacard(database: Database, record_property: Record) -> None:
    with Libcacard(database) as card:
        hold(LIBCACARD, CONVERSATIONS, NearLibcacard(card), record_property)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "v", settings="[reader.vccid0]\npcsc = true\n") as daemon:
        yield daemon


class Hands:
    """What puts the card into a daemon's reader and takes it out."""

    def __init__(self, daemon: Daemon, database: Database, *options: str) -> None:
        """Put it in."""
        card = ("--db", f"sql:{database.directory}", "--certs", "cert1,cert2,cert3", *options)
        daemon.ctl("insert", *card)
        control = [str(BIN / "vccidctl"), "--socket", str(daemon.control)]
        self.commands = [shlex.join([*control, "remove"]), shlex.join([*control, "insert", *card])]

    def converse(self, door: Door, env: Mapping[str, str], record: Record) -> None:
        """With the card in the only reader of the pcscd of `env`."""
        told = hold_by_pcsc(env, door, PIN, self.commands)
        note(door, CONVERSATIONS, told, record)


def converse_with_piv(door: Door, env: Mapping[str, str], record: Record) -> None:
    """With a PIV card in the only reader of the pcscd of `env`."""
    told = hold_by_pcsc(env, door, PIN, (), options=("--piv",))
    note(door, piv.CONVERSATIONS, told, record)


@pytest.fixture(scope="module")
def piv_certificates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As --certs takes them."""
    return Issued(tmp_path_factory.mktemp("piv"), *piv.KINDS).items


def test_a_piv_card_over_each_door(
    tmp_path: Path, daemon: Daemon, piv_certificates: str, record_property: Record
) -> None:
    """Those that need no guest; one reader is shown through all of them at once."""
    port, place = free_port(), f"127.0.0.1:{free_port()}"
    daemon.ctl("attach", "pty")
    daemon.ctl("insert", "--card", "piv", "--certs", piv_certificates)
    with contextlib.ExitStack() as end:
        converse_with_piv(OWN_PCSC, own_pcsc(daemon), record_property)
        real = end.enter_context(ours(tmp_path, daemon))
        converse_with_piv(DRIVER, real.env, record_property)
        twin = end.enter_context(pcscd_at(tmp_path, str(daemon.runtime / "vccid0.tty")))
        converse_with_piv(PTY, twin.env, record_property)
        vpcd = PrivatePcscd(tmp_path / "vpcd", [vpcd_entry(tmp_path, port)])
        end.enter_context(vpcd)
        daemon.ctl("attach", "vpicc", f"127.0.0.1:{port}")
        converse_with_piv(VPCD, vpcd.env, record_property)
        settings = f'[far_cards]\nvpcd = "{place}"\n'
        near = end.enter_context(Daemon(tmp_path / "near", real.env, settings=settings))
        near.ctl("insert", "--reader", "ours")
        relayed = end.enter_context(ours(tmp_path / "n", near))
        converse_with_piv(RELAYED, relayed.env, record_property)
        daemon.ctl("attach", "vpicc", place)
        wait_for_far_card(near)
        far = end.enter_context(ours(tmp_path, near, "far0"))
        converse_with_piv(FAR_VPCD, far.env, record_property)


def ours(directory: Path, daemon: Daemon, reader: str = "vccid0") -> PrivatePcscd:
    """A pcscd with one reader of a daemon's, by our driver."""
    entry = ReaderEntry("ours", f"vccid:{daemon.ifd(reader)}", LIBRARY)
    return PrivatePcscd(directory / f"pcscd-{reader}", [entry])


def own_pcsc(daemon: Daemon) -> dict[str, str]:
    """For programs that shall find a daemon in pcscd's place."""
    return {**os.environ, "PCSCLITE_CSOCK_NAME": str(daemon.runtime / "pcscd.comm")}


def wait_for_far_card(near: Daemon) -> None:
    """Until it has its first."""
    near.wait_for(lambda: near.run_ctl("card", "info", "far0").returncode == 0)


def test_own_pcsc(daemon: Daemon, database: Database, record_property: Record) -> None:
    Hands(daemon, database).converse(OWN_PCSC, own_pcsc(daemon), record_property)


def test_driver(
    tmp_path: Path, daemon: Daemon, database: Database, record_property: Record
) -> None:
    hands = Hands(daemon, database)
    with ours(tmp_path, daemon) as pcscd:
        hands.converse(DRIVER, pcscd.env, record_property)


def test_vpcd(tmp_path: Path, daemon: Daemon, database: Database, record_property: Record) -> None:
    port = free_port()
    hands = Hands(daemon, database)
    with PrivatePcscd(tmp_path / "pcscd", [vpcd_entry(tmp_path, port)]) as pcscd:
        daemon.ctl("attach", "vpicc", f"127.0.0.1:{port}")
        hands.converse(VPCD, pcscd.env, record_property)


def test_pty(tmp_path: Path, daemon: Daemon, database: Database, record_property: Record) -> None:
    daemon.ctl("attach", "pty")
    hands = Hands(daemon, database, "--atr", "t1")
    with pcscd_at(tmp_path, str(daemon.runtime / "vccid0.tty")) as pcscd:
        hands.converse(PTY, pcscd.env, record_property)


def test_relayed_card(
    tmp_path: Path, daemon: Daemon, database: Database, record_property: Record
) -> None:
    hands = Hands(daemon, database)
    with (
        ours(tmp_path, daemon) as real,
        Daemon(tmp_path / "near", environment=real.env) as near,
        ours(tmp_path / "n", near) as pcscd,
    ):
        near.ctl("insert", "--reader", "ours")
        hands.converse(RELAYED, pcscd.env, record_property)


def test_far_card(
    tmp_path: Path, daemon: Daemon, database: Database, record_property: Record
) -> None:
    place = tmp_path / "far.sock"
    with Daemon(tmp_path / "near", settings=f'[far_cards]\nlisten = "{place}"\n') as near:
        daemon.ctl("attach", "vsc", str(place))
        hands = Hands(daemon, database)
        wait_for_far_card(near)
        with ours(tmp_path, near, "far0") as pcscd:
            hands.converse(FAR, pcscd.env, record_property)


def test_a_piv_card_with_t0_over_vsc(
    tmp_path: Path, daemon: Daemon, piv_certificates: str, record_property: Record
) -> None:
    place = tmp_path / "far.sock"
    with Daemon(tmp_path / "near", settings=f'[far_cards]\nlisten = "{place}"\n') as near:
        daemon.ctl("attach", "vsc", str(place))
        daemon.ctl("insert", "--card", "piv-only-2025", "--certs", piv_certificates)
        wait_for_far_card(near)
        with ours(tmp_path, near, "far0") as pcscd:
            converse_with_piv(FAR, pcscd.env, record_property)


def test_far_card_by_vpcd(
    tmp_path: Path, daemon: Daemon, database: Database, record_property: Record
) -> None:
    place = f"127.0.0.1:{free_port()}"
    with Daemon(tmp_path / "near", settings=f'[far_cards]\nvpcd = "{place}"\n') as near:
        daemon.ctl("attach", "vpicc", place)
        hands = Hands(daemon, database)
        wait_for_far_card(near)
        with ours(tmp_path, near, "far0") as pcscd:
            hands.converse(FAR_VPCD, pcscd.env, record_property)
