# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's end of a USB reader for tests: transfers as libccid makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.unit.ccid.host import message
from vccid.frontends.pin_pad import PinPad
from vccid.frontends.usb.usb_host import UsbHost, UsbReader
from vccid.reader import Reader
from vccid.usb.descriptors import Identity, Speed
from vccid.usb.transfers import Completion, Transfer

SET_CONFIGURATION = bytes.fromhex("0009010000000000")


def usb_reader(
    *readers: Reader, pin_pad: PinPad | None = None, speed: Speed = Speed.FULL
) -> UsbReader:
    """One device that shows these readers."""
    name = readers[0].name
    return UsbReader(
        name,
        readers,
        Identity(serial=f"serial of {name}", label=name),
        (pin_pad,) + (None,) * (len(readers) - 1),
        speed,
    )


#: Begins a transfer and waits for its completion: endpoint, is_in, length, data, setup.
Carry = Callable[[int, bool, int, bytes, bytes], Awaitable[bytes | None]]


class CcidClient:
    """What a driver does with a reader, over whatever carries its transfers."""

    def __init__(self, carry: Carry) -> None:
        self._carry = carry
        self._seq = 0

    async def configure(self) -> None:
        assert await self._carry(0, False, 0, b"", SET_CONFIGURATION) == b""

    async def command(
        self, kind: int, data: bytes = b"", *, specific: str = "000000", slot: int = 0
    ) -> bytes:
        """One command; time extensions are waited through."""
        self._seq = (self._seq + 1) % 256
        raw = message(kind, slot, self._seq, specific, data)
        assert await self._carry(1, False, len(raw), raw, b"") == b""
        while True:
            answer = await self._carry(1, True, 65556, b"", b"")
            assert answer is not None
            assert answer[6] == self._seq
            if answer[7] >> 6 != 2:
                return answer

    async def status(self, slot: int = 0) -> int:
        return (await self.command(0x65, slot=slot))[7]

    async def power_on(self, slot: int = 0) -> bytes:
        return (await self.command(0x62, slot=slot))[10:]

    async def transmit(self, apdu: bytes, slot: int = 0) -> bytes:
        return (await self.command(0x6F, apdu, slot=slot))[10:]

    async def interrupt(self) -> bytes | None:
        return await self._carry(2, True, 8, b"", b"")


class Cable:
    """Transfers straight into a UsbHost."""

    def __init__(self, reader: UsbReader, kind: str = "vhci") -> None:
        self._futures: dict[int, asyncio.Future[bytes | None]] = {}
        self._next = 0
        self.host = UsbHost(reader, kind, "test", self._completed)
        self.client = CcidClient(self.carry)

    async def carry(
        self, endpoint: int, is_in: bool, length: int, data: bytes, setup: bytes
    ) -> bytes | None:
        self._next += 1
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._futures[self._next] = future
        self.host.submit(Transfer(self._next, endpoint, is_in, length, data, setup))
        return await future

    def _completed(self, completions: list[Completion]) -> None:
        for completion in completions:
            ok = completion.status.name == "DONE"
            self._futures.pop(completion.transfer.id).set_result(completion.data if ok else None)
