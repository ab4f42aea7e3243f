# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our USB reader in a guest through QEMU's usb-redir; the guest's kernel and libccid decide."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cards import PIN, MemoryToken, card_with_token, three_credentials
from tests.conversations.doors import USBREDIR
from tests.unit.card.piv.host import PIN as PIV_PIN
from tests.unit.card.piv.host import conversing_card
from tests.unit.fakes import FakeCard
from tests.vm.conversations import Record, converse, converse_with_piv
from tests.vm.guest import Guest, GuestOptions, until
from tests.vm.late_answers import late_answers
from vccid.frontends.usb.usb_host import UsbReader
from vccid.frontends.usb.usbredir import UsbRedirFrontend
from vccid.links.transport import Endpoint, parse_address
from vccid.reader import Reader
from vccid.usb.descriptors import Identity, Speed

SOCKETS = Path(tempfile.mkdtemp(prefix="vccid-redir-"))
CALLED = SOCKETS / "called.sock"  # QEMU listens
CALLING = SOCKETS / "calling.sock"  # QEMU dials
GUEST = GuestOptions(
    qemu=[
        *("-device", "qemu-xhci,id=xhci", "-device", "piix3-usb-uhci,id=uhci"),
        *("-chardev", f"socket,id=called,path={CALLED},server=on,wait=off"),
        *("-device", "usb-redir,chardev=called,bus=xhci.0"),
        *("-chardev", f"socket,id=calling,path={CALLING},reconnect=1"),
        *("-device", "usb-redir,chardev=calling,bus=uhci.0"),
    ]
)
ID = "0e0f:0004"
LIST = "opensc-tool -l 2>&1 | tee /share/readers.log"
CARD_IN = until(f"{LIST} | grep '^0 *Yes'")
CARD_OUT = until(f"{LIST} | grep '^0 *No'")
GONE = until(f"! lsusb -d {ID}")
PCSCD = "LIBCCID_ifdLogLevel=7 pcscd --debug --foreground >>/share/pcscd.log 2>&1 &"


def echo_length(command: bytes) -> bytes:
    """READ BINARY: as many bytes as P1 P2 say."""
    return bytes(index & 0xFF for index in range(int.from_bytes(command[2:4], "big"))) + b"\x90\x00"


@pytest.fixture(scope="module", autouse=True)
def pcscd(guest: Guest) -> None:
    guest.run(until("lsusb -d 1d6b:0001"))
    guest.run(PCSCD)


@contextlib.asynccontextmanager
async def shown(
    guest: Guest, reader: Reader, path: Path, *, speed: Speed = Speed.FULL
) -> AsyncIterator[UsbRedirFrontend]:
    """A reader in the guest; at the end the guest has seen it leave."""
    usb = UsbReader("vccid0", (reader,), Identity("5E41A1", "vccid0"), speed=speed)
    frontend = UsbRedirFrontend(usb, Endpoint(parse_address(str(path))), listen=path == CALLING)
    await frontend.start()
    try:
        yield frontend
    finally:
        await frontend.stop()
        await text(guest, GONE)


async def text(guest: Guest, command: str) -> str:
    result = await asyncio.to_thread(guest.run, command)
    return str(result.text)


@pytest.mark.parametrize("path", [CALLED, CALLING], ids=["dialled, xhci", "listening, uhci"])
async def test_answers_of_every_length(guest: Guest, path: Path, quiet_kernel: None) -> None:
    reader = Reader("vccid0")
    reader.insert(FakeCard(echo_length))
    async with shown(guest, reader, path):
        await text(guest, CARD_IN)
        assert (await text(guest, "opensc-tool -a")).replace(":", "").strip() == (
            reader.card.atr.hex() if reader.card else ""
        )
        lengths = [0, 1, *range(48, 58), *range(114, 120), 244, 245, 246, 255]
        commands = " ".join(f"-s 00B0{length:04X}00" for length in lengths)
        said = await text(guest, f"opensc-tool {commands}")
        assert said.count("SW1=0x90, SW2=0x00") == len(lengths)


async def test_every_conversation(
    guest: Guest, quiet_kernel: None, tmp_path: Path, record_property: Record
) -> None:
    reader = Reader("vccid0")
    reader.insert(await card_with_token(three_credentials(), tmp_path, MemoryToken()))
    async with shown(guest, reader, CALLED):
        await asyncio.to_thread(converse, guest, USBREDIR, PIN.decode(), record_property)
        reader.remove()
        await text(guest, CARD_OUT)
        reader.insert(await conversing_card())
        await asyncio.to_thread(
            converse_with_piv, guest, USBREDIR, PIV_PIN.decode(), record_property
        )


async def test_insert_and_remove_are_seen(guest: Guest, quiet_kernel: None) -> None:
    reader = Reader("vccid0")
    async with shown(guest, reader, CALLED):
        for _ in range(2):
            generation = reader.insert(FakeCard())
            await text(guest, CARD_IN)
            assert await reader.wait_seen(generation, 10)
            reader.remove()
            await text(guest, CARD_OUT)


async def test_a_reader_too_slow_for_libccid_is_plugged_in_again(
    guest: Guest, quiet_kernel: None
) -> None:
    reader = Reader("vccid0")
    reader.insert(FakeCard())
    with late_answers():
        async with shown(guest, reader, CALLED) as frontend:
            await text(guest, CARD_IN)
            assert frontend.connections > 1


async def test_a_killed_daemon_comes_back(guest: Guest, quiet_kernel: None) -> None:
    reader = Reader("vccid0")
    reader.insert(FakeCard())
    usb = UsbReader("vccid0", (reader,), Identity("5E41A1", "vccid0"))
    frontend = UsbRedirFrontend(usb, Endpoint(parse_address(str(CALLED))))
    await frontend.start()
    await text(guest, CARD_IN)
    assert frontend._call.link is not None
    frontend._call.link.abort()
    await frontend.stop()
    await text(guest, GONE)
    async with shown(guest, reader, CALLED):
        await text(guest, until("opensc-tool -s 00B0000400 | grep SW1=0x90"))


async def test_a_pcscd_killed_under_a_command(guest: Guest, quiet_kernel: None) -> None:
    """Its kernel cancels every transfer; the next pcscd finds a reader that works."""
    late: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    def answer(command: bytes) -> bytes | asyncio.Future[bytes]:
        if command[1] == 0xB0 and not asked.is_set():
            asked.set()
            return late
        return b"\x90\x00"

    reader = Reader("vccid0")
    reader.insert(FakeCard(answer))
    async with shown(guest, reader, CALLED):
        await text(guest, CARD_IN)
        waiting = await asyncio.to_thread(guest.start, "opensc-tool -s 00B0000400")
        await asked.wait()
        await text(guest, "pkill -KILL -x pcscd")
        late.set_result(b"\x90\x00")
        result = await asyncio.to_thread(waiting.wait, 60)
        assert result.code != 0
        await text(guest, f"rm -f /run/pcscd/*; {PCSCD} {CARD_IN}")
        await text(guest, "opensc-tool -s 00B0000400 | grep SW1=0x90")


async def test_a_rebooted_guest_has_its_reader(guest: Guest, quiet_kernel: None) -> None:
    reader = Reader("vccid0")
    reader.insert(FakeCard())
    async with shown(guest, reader, CALLED):
        await text(guest, CARD_IN)
        await asyncio.to_thread(guest.reset)
        await text(guest, until("lsusb -d 0e0f:0004"))
        await text(guest, f"{PCSCD} {CARD_IN}")
        await text(guest, "opensc-tool -s 00B0000400 | grep SW1=0x90")
