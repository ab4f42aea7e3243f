# SPDX-License-Identifier: LGPL-2.1-or-later
"""A USB/IP client for tests, written from the kernel's document and not from vccid's code."""

from __future__ import annotations

import asyncio
import ssl
import struct
from types import TracebackType

from .usb_client import CcidClient

REQUEST = struct.Struct(">10I8s")
REPLY = struct.Struct(">5IiIIII8x")


class UsbIpClient:
    """One connection; `carry` is what CcidClient needs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ccid = CcidClient(self.carry)
        self._waiting: dict[int, asyncio.Future[tuple[int, int, bytes]]] = {}
        self._rooms: dict[int, bool] = {}
        self._seqnum = 100
        self._pump: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls, address: tuple[str, int], tls: ssl.SSLContext | None = None
    ) -> UsbIpClient:
        name = None if tls is None else "localhost"
        return cls(*await asyncio.open_connection(*address, ssl=tls, server_hostname=name))

    async def __aenter__(self) -> UsbIpClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self.writer.close()

    async def devlist(self) -> list[tuple[str, int, int]]:
        """(busid, speed, idVendor) of each device."""
        self.writer.write(bytes.fromhex("0111" "8005" "00000000"))
        head = await self.reader.readexactly(12)
        assert head[:8] == bytes.fromhex("0111" "0005" "00000000")
        devices = []
        for _ in range(struct.unpack(">I", head[8:])[0]):
            record = await self.reader.readexactly(312)
            assert await self.reader.readexactly(4 * record[311]) == b"\x0b\0\0\0"
            busid = record[256:288].rstrip(b"\0").decode()
            devices.append((busid, *struct.unpack_from(">IH", record, 296)))
        assert await self.reader.read() == b""
        return devices

    async def import_device(self, busid: str) -> int:
        """The status; the URB phase has begun where it is 0."""
        self.writer.write(bytes.fromhex("0111" "8003" "00000000") + busid.encode().ljust(32, b"\0"))
        version, code, status = struct.unpack(">HHI", await self.reader.readexactly(8))
        assert (version, code) == (0x0111, 0x0003)
        if status == 0:
            record = await self.reader.readexactly(312)
            assert record[256:288].rstrip(b"\0").decode() == busid
            self._pump = asyncio.create_task(self._read())
        return status

    def submit(
        self, endpoint: int, is_in: bool, length: int, data: bytes = b"", setup: bytes = bytes(8)
    ) -> int:
        """Send CMD_SUBMIT; returns its seqnum."""
        self._seqnum += 7
        seqnum = self._seqnum
        self._rooms[seqnum] = is_in
        self._waiting[seqnum] = asyncio.get_running_loop().create_future()
        self.writer.write(
            REQUEST.pack(1, seqnum, 0x10001, is_in, endpoint, 0, length, 0, 0, 0, setup) + data
        )
        return seqnum

    async def returned(self, seqnum: int) -> tuple[int, int, bytes]:
        """(status, actual_length, data) of a RET message."""
        return await self._waiting[seqnum]

    async def unlink(self, victim: int) -> int:
        """Send CMD_UNLINK; returns the status of its RET_UNLINK."""
        self._seqnum += 7
        self._waiting[self._seqnum] = asyncio.get_running_loop().create_future()
        self._rooms[self._seqnum] = False
        self.writer.write(
            REQUEST.pack(2, self._seqnum, 0x10001, 0, 0, victim, 0, 0, 0, 0, bytes(8))
        )
        return (await self._waiting[self._seqnum])[0]

    async def carry(
        self, endpoint: int, is_in: bool, length: int, data: bytes, setup: bytes
    ) -> bytes | None:
        seqnum = self.submit(endpoint, is_in, length, data, setup or bytes(8))
        status, actual, answer = await self.returned(seqnum)
        assert actual == (len(answer) if is_in or status else len(data))
        return answer if status == 0 else None

    async def _read(self) -> None:
        while True:
            try:
                raw = await self.reader.readexactly(48)
            except (asyncio.IncompleteReadError, ConnectionError):
                for future in self._waiting.values():
                    if not future.done():
                        future.set_exception(ConnectionResetError())
                return
            command, seqnum, _, _, _, status, length, _, packets, _ = REPLY.unpack(raw)
            assert packets == 0
            data = b""
            if command == 3 and self._rooms[seqnum]:
                data = await self.reader.readexactly(length)
            self._waiting[seqnum].set_result((status, length, data))
