# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attaching to vhci_hcd, with this process as the kernel; the real one is in tests/vm."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from tests.unit.fakes import ATR, FakeCard
from vccid.errors import NotPermitted
from vccid.frontends.usb import opening
from vccid.frontends.usb.opening import OpeningWatch
from vccid.frontends.usb.vhci import VhciFrontend
from vccid.frontends.usb.vhci_ports import Port, Ports, PortState
from vccid.reader import Reader
from vccid.usb.descriptors import Speed

from .usb_client import usb_reader
from .usbip_client import REQUEST, UsbIpClient


class FakeKernel(Ports):
    """Keeps its own reference to the socket it is given, as the kernel does."""

    def __init__(self) -> None:
        super().__init__()
        self.socket: socket.socket | None = None
        self.refusal: NotPermitted | None = None
        self.attached: asyncio.Queue[int] = asyncio.Queue()
        self.stays_used = False

    def attach(self, socket_fd: int, device_id: int, speed: Speed) -> int:
        if self.refusal is not None:
            raise self.refusal
        if self.socket is not None:
            self.attached.put_nowait(3)
        self.socket = socket.socket(fileno=os.dup(socket_fd))
        return 3

    def read(self) -> list[Port]:
        """The port is free once the other end has closed."""
        assert self.socket is not None
        gone = self.socket.fileno() == -1
        if self.stays_used:
            gone = False
        elif not gone:
            self.socket.setblocking(False)
            try:
                gone = self.socket.recv(1, socket.MSG_PEEK) == b""
            except BlockingIOError:
                gone = False
        return [Port("hs", 3, PortState.FREE if gone else PortState.USED, 0x10001, "1-1")]

    async def client(self) -> UsbIpClient:
        assert self.socket is not None
        client = UsbIpClient(*await asyncio.open_unix_connection(sock=self.socket))
        client._pump = asyncio.create_task(client._read())
        return client


@pytest.fixture
async def kernel() -> AsyncIterator[FakeKernel]:
    kernel = FakeKernel()
    yield kernel
    if kernel.socket is not None:
        kernel.socket.close()


async def test_the_kernel_uses_the_reader(kernel: FakeKernel) -> None:
    reader = Reader("office")
    reader.insert(FakeCard())
    frontend = VhciFrontend(usb_reader(reader), ports=kernel)
    assert frontend.status == "detached"
    await frontend.start()
    assert frontend.status == "port 3 of vhci_hcd"
    assert [(host.kind, host.peer) for host in reader.hosts] == [("vhci", "port 3")]
    client = await kernel.client()
    await client.ccid.configure()
    assert await client.ccid.power_on() == ATR
    waiting = client.submit(2, True, 8)
    assert (await client.returned(waiting))[2] == b"\x50\x03"
    waiting = client.submit(2, True, 8)
    assert await client.unlink(waiting) == -104
    await client.close()
    await frontend.stop()


async def test_detaching_waits_for_the_port(kernel: FakeKernel) -> None:
    reader = Reader("office")
    lost: list[str] = []
    frontend = VhciFrontend(usb_reader(reader), lambda: lost.append("lost"), kernel)
    await frontend.start()
    await frontend.stop()
    assert kernel.read()[0].state is PortState.FREE
    assert (frontend.status, reader.hosts, lost) == ("detached", set(), [])
    await frontend.stop()
    await frontend.start()
    assert frontend.status == "port 3 of vhci_hcd"
    await frontend.stop()


@pytest.mark.parametrize("rubbish", [b"", REQUEST.pack(7, *[0] * 9, bytes(8))])
async def test_the_kernel_lets_go(kernel: FakeKernel, rubbish: bytes) -> None:
    reader = Reader("office")
    lost = asyncio.Event()
    frontend = VhciFrontend(usb_reader(reader), lost.set, kernel)
    await frontend.start()
    assert kernel.socket is not None
    if rubbish:
        kernel.socket.send(rubbish)
    else:
        kernel.socket.close()
    await asyncio.wait_for(lost.wait(), 10)
    assert (frontend.status, reader.hosts) == ("detached", set())


async def test_nothing_is_left_of_a_refused_attach(kernel: FakeKernel) -> None:
    reader = Reader("office")
    kernel.refusal = NotPermitted("attach cannot be written", "a rule")
    frontend = VhciFrontend(usb_reader(reader), ports=kernel)
    with pytest.raises(NotPermitted):
        await frontend.start()
    assert (frontend.status, reader.hosts) == ("detached", set())


async def give_up(kernel: FakeKernel) -> UsbIpClient:
    """What libccid does when an answer comes too late for it: it cancels, and goes."""
    client = await kernel.client()
    await client.ccid.configure()
    assert await client.ccid.status() == 2
    assert await client.unlink(client._seqnum) == 0  # too late
    return client


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_SILENCE", 0.01)


async def test_a_reader_given_up_is_plugged_in_again(
    kernel: FakeKernel, quickly: None, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader("office")
    lost: list[str] = []
    frontend = VhciFrontend(usb_reader(reader), lambda: lost.append("lost"), kernel)
    await frontend.start()
    for _ in range(3):
        client = await give_up(kernel)
        await kernel.attached.get()
        await client.close()
    assert len(reader.hosts) == 1
    # A driver that never opens it is not to see it come for ever.
    client = await give_up(kernel)
    await asyncio.sleep(0.05)
    assert "given the reader up again" in caplog.text
    assert await client.ccid.status() == 2
    assert (frontend.status, lost) == ("port 3 of vhci_hcd", [])
    assert kernel.attached.empty()
    await client.close()
    await frontend.stop()
    assert reader.hosts == set()


async def test_a_reader_that_cannot_be_plugged_in_again_is_lost(
    kernel: FakeKernel, quickly: None
) -> None:
    reader = Reader("office")
    lost = asyncio.Event()
    frontend = VhciFrontend(usb_reader(reader), lost.set, kernel)
    await frontend.start()
    kernel.refusal = NotPermitted("attach cannot be written", "a rule")
    client = await give_up(kernel)
    await asyncio.wait_for(lost.wait(), 10)
    assert (frontend.status, reader.hosts) == ("detached", set())
    await client.close()


async def test_detaching_ends_the_next_try(kernel: FakeKernel, quickly: None) -> None:
    reader = Reader("office")
    frontend = VhciFrontend(usb_reader(reader), ports=kernel)
    await frontend.start()
    kernel.stays_used = True
    client = await give_up(kernel)
    while frontend.status != "detached":
        await asyncio.sleep(0.01)
    await frontend.stop()
    assert (frontend.status, reader.hosts) == ("detached", set())
    assert kernel.attached.empty()
    await client.close()


async def test_who_has_given_up(quickly: None) -> None:
    """In the order of libccid: old news, the status twice, then news or the card's power."""
    told: list[str] = []
    status, power_on, news = (1, b"\x65" + bytes(9)), (1, b"\x62" + bytes(9)), (2, b"")
    answer, control = (1, b""), (0, b"")
    begun = {
        "opened": (news, status, answer, status, answer, news),
        "powered": (news, status, answer, power_on, answer),
        "given up": (control, news, status, answer, status, answer),
        "enumerated": (control, control),
        "listens": (news,),
    }
    for name, transfers in begun.items():
        watch = OpeningWatch(lambda name=name: told.append(name))
        for endpoint, data in transfers:
            watch.began(endpoint, data)
            watch.idle()
        if name == "given up":
            ended = OpeningWatch(lambda: told.append("ended"))
            ended.began(*status)
            ended.idle()
            ended.close()
            going_on = OpeningWatch(lambda: told.append("going on"))
            going_on.began(*status)
            going_on.idle()
            going_on.began(*control)
    await asyncio.sleep(0.05)
    assert told == ["given up"]
    # A program that is through, and then another that gives up.
    watch.began(*status)
    watch.idle()
    await asyncio.sleep(0.05)
    assert told == ["given up", "listens"]
