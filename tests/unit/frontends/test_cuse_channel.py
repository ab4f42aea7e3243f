# SPDX-License-Identifier: LGPL-2.1-or-later
"""A CUSE channel, with this process as the kernel; the real one is in tests/vm."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from vccid.errors import NotPermitted, ReaderError
from vccid.frontends.cuse_channel import CuseChannel, CuseFile, DeviceNumbers, open_cuse
from vccid.wire import fuse

from .cuse_kernel import FakeKernel


class Pipe(CuseFile):
    """Gives back what was written, one message at a time."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.messages: list[bytes] = []
        self.released = False
        self._wake = wake
        self._written = asyncio.Event()

    def read(self, size: int, wait: bool) -> bytes | Awaitable[bytes]:
        if self.messages:
            return self.messages.pop(0)
        if not wait:
            raise BlockingIOError(errno.EAGAIN, "")
        return self._read_later()

    async def _read_later(self) -> bytes:
        while not self.messages:
            self._written.clear()
            await self._written.wait()
        return self.messages.pop(0)

    def write(self, data: bytes, wait: bool) -> int:
        self.messages.append(data)
        self._written.set()
        self._wake()
        return len(data)

    def ioctl(self, request: fuse.Ioctl) -> fuse.IoctlAnswer:
        if request.command == 1:
            raise ZeroDivisionError("a slip")
        if request.command == 2 and not request.data:
            return fuse.IoctlRetry([(request.argument, 4)])
        return fuse.IoctlResult(7, request.data[::-1])

    def poll(self) -> int:
        return 1 if self.messages else 4

    def release(self) -> None:
        self.released = True


class Device:
    """What is at the other end of the channel."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.files: list[Pipe] = []
        self.slow: asyncio.Future[None] | None = None
        self.lost = asyncio.Event()
        self.channel = CuseChannel(
            "vccid/office", self.open, self.lost.set, connect=self.kernel.connect
        )

    def open(self, request: fuse.Open, wake: Callable[[], None]) -> CuseFile | Awaitable[CuseFile]:
        if request.flags & os.O_APPEND:
            raise OSError(errno.EBUSY, "")
        self.files.append(Pipe(wake))
        return self.files[-1] if self.slow is None else self._open_later(self.slow)

    async def _open_later(self, slow: asyncio.Future[None]) -> CuseFile:
        await slow
        return self.files[-1]


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    device = Device()
    await device.channel.start()
    device.kernel.collect()
    yield device
    device.channel.close()
    assert device.kernel.socket is not None
    device.kernel.socket.close()


async def test_the_device_is_asked_for(device: Device) -> None:
    error, body = device.kernel.answers[2]
    assert (error, body[72:]) == (0, b"DEVNAME=vccid!office\0")
    assert device.channel.path == Path("/dev/vccid/office")


async def test_files_of_their_own(device: Device) -> None:
    kernel = device.kernel
    one, two = await kernel.open(), await kernel.open()
    assert one != two
    assert await kernel.write(one, b"first") == 5
    assert await kernel.write(two, b"second") == 6
    assert await kernel.read(two) == b"second"
    assert await kernel.read(one) == b"first"
    await kernel.release(one)
    assert [file.released for file in device.files] == [True, False]
    with pytest.raises(OSError) as refused:
        await kernel.read(one)
    assert refused.value.errno == errno.EBADF


async def test_an_open_that_is_refused(device: Device) -> None:
    with pytest.raises(OSError) as refused:
        await device.kernel.open(os.O_RDWR | os.O_APPEND)
    assert refused.value.errno == errno.EBUSY


async def test_an_open_that_waits(device: Device) -> None:
    device.slow = asyncio.get_running_loop().create_future()
    opening = asyncio.create_task(device.kernel.open())
    await asyncio.sleep(0.01)
    device.slow.set_result(None)
    fh = await opening
    assert await device.kernel.write(fh, b"x") == 1


async def test_a_read_waits(device: Device) -> None:
    kernel = device.kernel
    fh = await kernel.open()
    with pytest.raises(BlockingIOError):
        await kernel.read(fh, flags=os.O_RDWR | os.O_NONBLOCK)
    reading = kernel.begin_read(fh)
    await kernel.write(fh, b"late")
    assert await kernel.answer(reading) == (0, b"late")


async def test_an_interrupt_ends_a_read_and_loses_nothing(device: Device) -> None:
    kernel = device.kernel
    fh = await kernel.open()
    reading = kernel.begin_read(fh)
    await asyncio.sleep(0.01)
    kernel.interrupt(reading)
    assert await kernel.answer(reading) == (errno.EINTR, b"")
    kernel.interrupt(reading)  # once more, too late
    await kernel.write(fh, b"kept")
    assert await kernel.read(fh) == b"kept"


async def test_an_interrupt_and_the_data_at_once(device: Device) -> None:
    """Whichever comes first, a message is read once and nothing is answered twice."""
    kernel = device.kernel
    fh = await kernel.open()
    for _ in range(20):
        reading = kernel.begin_read(fh)
        writing = kernel.begin_write(fh, b"one")
        kernel.interrupt(reading)
        error, body = await kernel.answer(reading)
        await kernel.answer(writing)
        assert (error, body) in ((0, b"one"), (errno.EINTR, b""))
        if error:
            assert await kernel.read(fh) == b"one"


async def test_pollers_are_told_once(device: Device) -> None:
    kernel = device.kernel
    fh = await kernel.open()
    assert await kernel.poll(fh, kh=9) == 4
    await kernel.write(fh, b"a")
    await kernel.write(fh, b"b")
    assert kernel.notified == [9]
    assert await kernel.poll(fh) == 1


async def test_ioctls(device: Device) -> None:
    kernel = device.kernel
    fh = await kernel.open()
    assert await kernel.ioctl(fh, 3, b"abc", room=3) == (7, b"cba")
    _, body = await kernel.call(39, struct.pack("=QIIQII", fh, 2, 2, 0x1000, 0, 0))
    assert body == struct.pack("=iIII", 0, 4, 1, 0) + struct.pack("=QQ", 0x1000, 4)


async def test_every_request_is_answered(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    kernel = device.kernel
    fh = await kernel.open()
    with pytest.raises(OSError) as refused:
        await kernel.ioctl(fh, 1)
    assert refused.value.errno == errno.EIO
    assert "a slip" in caplog.text
    assert await kernel.call(26, b"") == (errno.ENOSYS, b"")


async def test_the_largest_messages(device: Device) -> None:
    kernel = device.kernel
    fh = await kernel.open()
    data = os.urandom(fuse.MAX_TRANSFER)
    assert await kernel.write(fh, data) == len(data)
    assert await kernel.read(fh, len(data)) == data


async def test_closing_lets_everybody_go(device: Device) -> None:
    kernel = device.kernel
    fh = await kernel.open()
    reading = kernel.begin_read(fh)
    await asyncio.sleep(0.01)
    device.channel.close()
    assert await kernel.answer(reading) == (errno.ENODEV, b"")
    assert device.files[0].released
    assert not device.lost.is_set()
    device.channel.close()


@pytest.mark.parametrize("rubbish", [b"", b"rubbish"])
async def test_the_kernel_ends_it(device: Device, rubbish: bytes) -> None:
    assert device.kernel.socket is not None
    await device.kernel.open()
    if rubbish:
        device.kernel.socket.send(rubbish)
    else:
        device.kernel.socket.close()
    await asyncio.wait_for(device.lost.wait(), 10)
    assert device.files[0].released


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOENT, ReaderError, "not loaded"),
        (errno.ENODEV, ReaderError, "not loaded"),
        (errno.EACCES, NotPermitted, "closed to the daemon"),
        (errno.EPERM, NotPermitted, "closed to the daemon"),
        (errno.EMFILE, ReaderError, "Too many open files"),
    ],
)
def test_why_there_is_no_channel(
    number: int, kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind, match=said):
        open_cuse()


def test_device_numbers_are_of_one_major() -> None:
    numbers = DeviceNumbers()
    assert numbers.free() == (0, 0)
    numbers.take((240, 0))
    assert numbers.free() == (240, 1)
    numbers.take((240, 1))
    numbers.take((239, 0))  # the kernel's choice, where another process had 240:2
    numbers.give_back((240, 0))
    assert numbers.free() == (240, 0)
    numbers.give_back((240, 1))
    numbers.give_back((239, 0))
    assert numbers.free() == (0, 0)


async def test_another_greeting() -> None:
    kernel = FakeKernel()

    def connect() -> int:
        descriptor = kernel.connect()
        os.read(descriptor, 4096)
        kernel.submit(14, bytes(8))
        return descriptor

    channel = CuseChannel("vccid/office", lambda request, wake: Pipe(wake), connect=connect)
    with pytest.raises(ReaderError, match="Open came before CUSE_INIT"):
        await channel.start()
    channel.close()
    assert kernel.socket is not None
    kernel.socket.close()
