# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon with a card, for the tests that look at it from outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.desk import PIN, Desk
from tests.peers.libcacard import Database, make_database
from tests.peers.stage import Stage

CERTS = "cert1,cert2,cert3"


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
