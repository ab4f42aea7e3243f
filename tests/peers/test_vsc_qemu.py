# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's own ccid-card-passthru, with no guest in it: what it takes, and its restarts."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.far import until
from tests.unit.fakes import ATR, FakeCard
from vccid.frontends.dialling import Timing
from vccid.frontends.guest.vsc import VscFrontend
from vccid.links.transport import Endpoint, parse_address
from vccid.reader import Reader

TIMING = Timing(first_retry=0.02, last_retry=0.1, exchange=0.02)


@contextlib.contextmanager
def qemu(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A machine that never starts; its devices are there all the same."""
    process = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-S"),
            *("-M", "pc", "-m", "8", "-nodefaults", "-display", "none"),
            *("-chardev", f"socket,id=ccid0,path={path},server=on,wait=off"),
            *("-device", "piix3-usb-uhci", "-device", "usb-ccid"),
            *("-device", "ccid-card-passthru,chardev=ccid0,debug=4"),
        ],
        stdout=(path.parent / "qemu.log").open("ab"),
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def log(path: Path) -> str:
    return (path.parent / "qemu.log").read_text()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ccid.sock"


@pytest.fixture
def reader() -> Reader:
    return Reader("vccid0")


async def test_reader_card_removal_and_restart(path: Path, reader: Reader) -> None:
    frontend = VscFrontend(reader, Endpoint(parse_address(str(path))), TIMING)
    await frontend.start()
    generation = reader.insert(FakeCard())
    for connections in (1, 2):
        with qemu(path):
            await until(lambda n=connections: frontend.connections == n)
            assert await reader.wait_seen(generation, 10)
            assert not frontend.trouble
        await until(lambda: not reader.hosts)
    with qemu(path) as third:
        await until(lambda: frontend.connections == 3)
        generation = reader.remove()
        assert await reader.wait_seen(generation, 10)
        reader.insert(FakeCard())
        await frontend.stop()
        third.terminate()
        third.wait()
    assert "VSC_ATR 15" in log(path)
    assert "VSC_CardRemove" in log(path)
    assert "unexpected message" not in log(path)


async def test_a_second_client_waits_unheard(path: Path, reader: Reader) -> None:
    """QEMU takes one; the other is told by nobody, and comes in when the first has left."""
    endpoint = Endpoint(parse_address(str(path)))
    other = Reader("vccid1")
    first = VscFrontend(reader, endpoint, TIMING)
    second = VscFrontend(other, endpoint, Timing(ready=0.2, first_retry=0.02, last_retry=0.1))
    with qemu(path):
        await first.start()
        await until(lambda: first.state == "attached")
        await second.start()
        await until(lambda: "another client" in second.trouble)
        await first.stop()
        await until(lambda: second.state == "attached")
        await second.stop()


async def test_an_atr_qemu_does_not_take(path: Path, reader: Reader) -> None:
    short = ATR[:9]
    frontend = VscFrontend(reader, Endpoint(parse_address(str(path))), TIMING)
    reader.insert(FakeCard(atr=short))
    with qemu(path):
        await frontend.start()
        await until(lambda: "refused" in frontend.trouble)
        reader.remove()
        assert await reader.wait_seen(reader.insert(FakeCard(atr=ATR)), 10)
        await frontend.stop()
    assert "ATR is inconsistent" in log(path)
