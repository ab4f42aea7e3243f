# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card in a guest through QEMU's ccid-card-passthru; guest software decides.

The card is libcacard's, behind a client that is not ours: client, VscListener, Reader,
VscFrontend, QEMU, libccid, pcscd, OpenSC.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cards import PIN as CARD_PIN
from tests.cards import MemoryToken, card_with_token, three_credentials
from tests.conversations.doors import VSC
from tests.peers.far import FarReaders
from tests.peers.far import until as until_here
from tests.peers.libcacard import Database, make_database
from tests.peers.vsc_client import VscClient
from tests.unit.card.piv.host import PIN as PIV_PIN
from tests.unit.card.piv.host import conversing_card
from tests.unit.fakes import FakeCard
from tests.vm.conversations import Record, converse, converse_with_piv
from tests.vm.devices import usb_ccid_passthru, usb_controller
from tests.vm.guest import Guest, GuestOptions, until
from vccid.backends.vsc import VscListener
from vccid.frontends.dialling import Timing
from vccid.frontends.guest.vsc import VscFrontend
from vccid.iso7816.atr import ALTERNATE_TOKEN_ATR
from vccid.links.transport import Endpoint, parse_address
from vccid.reader import Reader

pytestmark = pytest.mark.usefixtures("quiet_kernel")
PIN = "123456"
ONE_GUEST = pytest.mark.parametrize("guest", ["xhci"], indirect=True)
SOCKETS = Path(tempfile.mkdtemp(prefix="vccid-vsc-"))
XHCI = ["-device", "qemu-xhci,id=uhci"]
CONTROLLERS = {"uhci": usb_controller(), "xhci": XHCI}


@pytest.fixture(scope="module", params=CONTROLLERS)
def guest(request: pytest.FixtureRequest, make_guest) -> Guest:  # type: ignore[no-untyped-def]
    """A guest of each kind of controller, with its pcscd up."""
    path = SOCKETS / f"{request.param}.sock"
    options = GuestOptions(qemu=[*CONTROLLERS[request.param], *usb_ccid_passthru(path)])
    guest: Guest = make_guest(options)
    guest.run(until("lsusb -d 08e6:4433"))
    guest.run(
        "pcscd --debug --foreground >/tmp/pcscd.log 2>&1 & "
        + until("opensc-tool -l | grep -q 433-Swap")
    )
    return guest


@pytest.fixture
def path(request: pytest.FixtureRequest) -> Path:
    return SOCKETS / f"{request.node.callspec.params['guest']}.sock"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return make_database(tmp_path_factory.mktemp("nss") / "db", PIN)


@contextlib.asynccontextmanager
async def shown(reader: Reader, path: Path, guest: Guest) -> AsyncIterator[VscFrontend]:
    """A reader in the guest; at the end the guest has seen its card leave."""
    frontend = VscFrontend(reader, Endpoint(parse_address(str(path))), Timing())
    await frontend.start()
    try:
        yield frontend
    finally:
        await frontend.stop()
        await text(guest, CARD_OUT)


@contextlib.asynccontextmanager
async def far_card(database: Database, directory: Path) -> AsyncIterator[Reader]:
    far = FarReaders()
    listener = VscListener(Endpoint(parse_address(f"{directory}/far.sock")), far)
    await listener.start()
    try:
        with VscClient(directory / "far.sock", database) as client:
            client.tell("insert")
            await until_here(lambda: far.readers and far.readers[0].card)
            yield far.readers[0]
    finally:
        await listener.close()


def _hex_dump(answer: str) -> str:
    """The bytes opensc-tool printed below its `Received` line."""
    lines = answer.split("Sending")[0].splitlines()[1:]
    return "".join("".join(re.findall(r"\b[0-9A-F]{2}\b", line[:48])) for line in lines)


async def text(guest: Guest, command: str) -> str:
    result = await asyncio.to_thread(guest.run, command)
    return str(result.text)


CARD_IN = until("opensc-tool -l | grep -q '^0 *Yes'")
CARD_OUT = until("opensc-tool -l | grep -q '^0 *No'")


@ONE_GUEST
async def test_every_conversation(
    guest: Guest, path: Path, tmp_path: Path, record_property: Record
) -> None:
    reader = Reader("vccid0")
    reader.insert(await card_with_token(three_credentials(), tmp_path, MemoryToken(CARD_PIN)))
    async with shown(reader, path, guest):
        await asyncio.to_thread(converse, guest, VSC, CARD_PIN.decode(), record_property)
        reader.remove()
        await text(guest, CARD_OUT)
        reader.insert(await conversing_card(ALTERNATE_TOKEN_ATR))
        await asyncio.to_thread(converse_with_piv, guest, VSC, PIV_PIN.decode(), record_property)


async def test_opensc_logs_in_and_signs(
    guest: Guest, path: Path, database: Database, tmp_path: Path
) -> None:
    async with far_card(database, tmp_path) as reader, shown(reader, path, guest):
        await text(guest, CARD_IN)
        assert "CAC" in await text(guest, "opensc-tool -n")
        tested = await text(guest, f"pkcs11-tool --test --login --pin {PIN} 2>&1")
        # libcacard has no GET CHALLENGE; OpenSC tests everything else.
        assert re.findall(r"ERR.*|[0-9]+ errors", tested) == [
            "ERR: C_GenerateRandom failed: CKR_GENERAL_ERROR (0x5)",
            "1 errors",
        ]
        # Again and again, as quickly as OpenSC can: QEMU's loss of step shows here.
        for _ in range(5):
            assert "cert1" in (await text(guest, "pkcs11-tool -O"))


async def test_52_bytes_do_not_lose_the_reader(guest: Guest, path: Path) -> None:
    """CCID blocks of every length round 64 and 128 bytes, on each kind of controller."""

    def answer(command: bytes) -> bytes:
        return bytes(range(command[3])) + b"\x90\x00"

    reader = Reader("vccid0")
    reader.insert(FakeCard(answer))
    async with shown(reader, path, guest):
        await text(guest, CARD_IN)
        lengths = [*range(48, 58), *range(114, 120), 180, 255]
        commands = " ".join(f"-s 00B000{length:02X}{length:02X}" for length in lengths)
        said = await text(guest, f"opensc-tool {commands}")
        answers = [_hex_dump(answer) for answer in said.split("Received")[1:]]
        assert answers == [bytes(range(length)).hex().upper() for length in lengths]
        await text(guest, "opensc-tool -l | grep '^0 *Yes'")


@ONE_GUEST
async def test_insert_and_remove_are_seen(guest: Guest, path: Path) -> None:
    reader = Reader("vccid0")
    async with shown(reader, path, guest):
        for _ in range(2):
            reader.insert(FakeCard())
            await text(guest, CARD_IN)
            reader.remove()
            await text(guest, CARD_OUT)


@ONE_GUEST
async def test_no_card_is_left_behind(guest: Guest, path: Path) -> None:
    reader = Reader("vccid0")
    reader.insert(FakeCard())
    async with shown(reader, path, guest):
        await text(guest, CARD_IN)


@ONE_GUEST
async def test_a_killed_daemon_comes_back(guest: Guest, path: Path) -> None:
    """Its card stays in the guest until the next one clears it away."""
    reader = Reader("vccid0")
    reader.insert(FakeCard())
    frontend = VscFrontend(reader, Endpoint(parse_address(str(path))))
    await frontend.start()
    await text(guest, CARD_IN)
    # Without the leave that close takes: as kill -9 does it.
    assert frontend._call.link is not None
    frontend._call.link.abort()
    await frontend.stop()
    async with shown(reader, path, guest):
        await text(guest, until("opensc-tool -s 00A40000 | grep SW1=0x90"))


@ONE_GUEST
async def test_a_rebooted_guest_has_its_card(guest: Guest, path: Path) -> None:
    reader = Reader("vccid0")
    reader.insert(FakeCard())
    async with shown(reader, path, guest):
        await asyncio.to_thread(guest.reset)
        await text(guest, until("lsusb -d 08e6:4433"))
        await text(guest, "pcscd --foreground >/dev/null 2>&1 & " + CARD_IN)
        assert "Received (SW1=0x90" in await text(guest, "opensc-tool -s 00A40000")
