# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon with a card, for the tests that look at it from outside."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.desk import PIN, Desk
from tests.peers.libcacard import Database, make_database
from tests.peers.pcsc_application import Application
from tests.peers.plain_daemon import PlainDaemon
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER, ROOT, Stage

CERTS = "cert1,cert2,cert3"


@pytest.fixture(scope="session", autouse=True)
def run_pcscd() -> Iterator[None]:
    """/run/pcscd, which systemd makes where it runs, and a bare root lacks.

    Each pcscd has a folder of its own mounted there; one without namespaces needs its being there.
    """
    folder = Path("/run/pcscd")
    if os.geteuid() != 0 or folder.exists():
        yield
        return
    folder.mkdir(mode=0o755)
    yield
    with contextlib.suppress(OSError):
        folder.rmdir()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """The seed's three certificates; the password is the PIN."""
    return make_database(tmp_path_factory.mktemp("nss") / "db", PIN)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A running daemon, no card in it."""
    with Stage(tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest.fixture(scope="module")
def desk(stage: Stage, database: Database) -> Desk:
    """A host that sees the seed's card."""
    seen = stage.host()
    stage.daemon.ctl("insert", "--db", f"sql:{database.directory}", "--certs", CERTS, "--wait")
    return seen


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vccid-ifd-") as path:  # a socket's path is short
        yield Path(path)


@pytest.fixture
def paths(directory: Path) -> list[Path]:
    return [directory / "vccid0.ifd", directory / "vccid1.ifd"]


@pytest.fixture
def daemon(paths: list[Path]) -> Iterator[PlainDaemon]:
    with PlainDaemon(paths) as daemon:
        yield daemon


@pytest.fixture
def pcscd(directory: Path, paths: list[Path]) -> Iterator[PrivatePcscd]:
    subprocess.run(["make", "-s", "-C", ROOT / "pcscd-ifd"], check=True, timeout=100)
    entries = [ReaderEntry(f"vccid {path.stem}", f"vccid:{path}", DRIVER) for path in paths]
    with PrivatePcscd(directory / "pcscd", entries) as pcscd:
        yield pcscd
        assert pcscd.alive(), pcscd.log_tail()


@pytest.fixture
def application(pcscd: PrivatePcscd) -> Iterator[Application]:
    with Application(pcscd.env) as application:
        yield application
