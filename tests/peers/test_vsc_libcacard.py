# SPDX-License-Identifier: LGPL-2.1-or-later
"""A far card is libcacard's: VSC as its own people speak it, and the same card at this end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.peers.far import FarReaders, until
from tests.peers.libcacard import POWER_ON, Database, Libcacard, make_database
from tests.peers.vsc_client import VscClient
from vccid.backends.vsc import VscListener
from vccid.links.transport import Endpoint, parse_address

PASSWORD = "123456"
CONVERSATION = [
    bytes.fromhex(command)
    for command in (
        "00A4040007A0000000790300",  # SELECT the ACA applet
        "80520000020100" "00",  # READ BUFFER
        "00A4040007A0000000790100",  # SELECT the first PKI applet
        "8036000064",  # GET CERTIFICATE, 100 bytes
        "8036000000",
        "0020000006313233343536",  # VERIFY
        "00C0000010",  # GET RESPONSE, with nothing waiting
        "00",
    )
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return make_database(tmp_path_factory.mktemp("nss") / "db", PASSWORD)


@pytest.fixture
def far() -> FarReaders:
    return FarReaders()


@pytest.fixture
async def address(tmp_path: Path, far: FarReaders) -> AsyncIterator[Path]:
    path = tmp_path / "vsc.sock"
    listener = VscListener(Endpoint(parse_address(str(path))), far)
    await listener.start()
    yield path
    await listener.close()
    assert far.readers == []


async def test_the_far_card_is_libcacards_own(
    address: Path, far: FarReaders, database: Database
) -> None:
    with Libcacard(database) as near:
        atr, *expected = near.transmit([POWER_ON, *CONVERSATION])
    with VscClient(address, database) as client:
        client.tell("insert")
        await until(lambda: far.readers and far.readers[0].card)
        session = await far.readers[0].power_on()
        assert session.atr == atr
        answers = [await session.transmit(command) for command in CONVERSATION]
        assert [answer.hex() for answer in answers] == [answer.hex() for answer in expected]


async def test_it_comes_and_goes(address: Path, far: FarReaders, database: Database) -> None:
    with VscClient(address, database) as client:
        await until(lambda: far.readers)
        (reader,) = far.readers
        for _ in range(3):
            client.tell("insert")
            await until(lambda: reader.card)
            client.tell("remove")
            await until(lambda: reader.card is None)
        client.tell("insert")
        await until(lambda: reader.card)
        client.tell("quit")
        await until(lambda: not far.readers)


async def test_a_killed_client_takes_its_card_along(
    address: Path, far: FarReaders, database: Database
) -> None:
    with VscClient(address, database) as client:
        client.tell("insert")
        await until(lambda: far.readers and far.readers[0].card)
        client.kill()
        await until(lambda: not far.readers)
