# SPDX-License-Identifier: LGPL-2.1-or-later
"""A USB/IP client that uses a reader as libccid would: an URB out and one in for each message.

USB/IP: Linux, usb/usbip_protocol.rst. CCID: rev 1.1, 6.1 and 6.2.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final, cast

_VERSION: Final = 0x0111
_OP_REQ_IMPORT: Final = 0x8003
#: version, code, status; busid
_IMPORT: Final = struct.Struct(">HHI32s")
_REPLY_SIZE: Final = 8 + 312
#: command, seqnum, devid, direction, ep, transfer_flags, transfer_buffer_length, start_frame,
#: number_of_packets, interval, setup
_SUBMIT: Final = struct.Struct(">10I8s")
#: command, seqnum, devid, direction, ep, status, actual_length, start_frame,
#: number_of_packets, error_count, padding
_RET: Final = struct.Struct(">5IiIIII8x")
_CMD_SUBMIT: Final = 1
_SET_CONFIGURATION: Final = bytes((0x00, 0x09, 1, 0, 0, 0, 0, 0))
_NO_SETUP: Final = bytes(8)
_OUT, _IN = 0, 1
_ROOM: Final = 65_556
#: bMessageType, dwLength, bSlot, bSeq, three bytes of its own
_CCID: Final = struct.Struct("<BIBB3x")
_ICC_POWER_ON: Final = 0x62
_XFR_BLOCK: Final = 0x6F


class Importer(asyncio.Protocol):
    """One imported reader; one exchange at a time."""

    def __init__(self, busid: str) -> None:
        self._busid = busid
        self._buffer = bytearray()
        self._imported = False
        self._sequence = 0
        self._awaited = 0  # seqnum whose answer ends the exchange
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.WriteTransport

    async def begin(self) -> bytes:
        """Import, configure and power the card; returns the ATR."""
        await self._answer
        await self._exchange(self._submit(_OUT, 0, 0, setup=_SET_CONFIGURATION))
        return await self._message(_ICC_POWER_ON, b"")

    async def transmit(self, command: bytes) -> bytes:
        """XfrBlock of an APDU; its answer."""
        return await self._message(_XFR_BLOCK, command)

    def close(self) -> None:
        self._transport.close()

    # --- asyncio.Protocol ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._transport.write(_IMPORT.pack(_VERSION, _OP_REQ_IMPORT, 0, self._busid.encode()))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._imported:
            self._take_import()
        while len(self._buffer) >= _RET.size and self._take_urb():
            pass

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(ConnectionError("the server let go"))

    # -------------------------------------------------------------------------------------

    def _take_import(self) -> None:
        if len(self._buffer) >= _REPLY_SIZE:
            self._imported = True
            del self._buffer[:_REPLY_SIZE]
            self._answer.set_result(b"")
        elif len(self._buffer) == _IMPORT.size - 32 and self._buffer[7]:
            self._answer.set_exception(ConnectionError(f"import refused: {self._buffer[7]}"))

    def _take_urb(self) -> bool:
        """Take one RET_SUBMIT; False where it is not whole."""
        _, sequence, _, _, _, status, length, _, _, _ = _RET.unpack_from(self._buffer)
        # Of an OUT transfer the length alone comes back; here it is always answered first.
        size = _RET.size + (length if sequence == self._awaited and self._expects_data else 0)
        if len(self._buffer) < size:
            return False
        data = bytes(self._buffer[_RET.size : size])
        del self._buffer[:size]
        if status != 0:
            self._answer.set_exception(ConnectionError(f"URB status {status}"))
        elif sequence == self._awaited:
            self._answer.set_result(data)
        return True

    def _submit(self, direction: int, endpoint: int, length: int, *, setup: bytes = b"") -> bytes:
        self._sequence += 1
        return _SUBMIT.pack(
            _CMD_SUBMIT, self._sequence, 1, direction, endpoint, 0, length, 0, 0, 0,
            setup or _NO_SETUP,
        )  # fmt: skip

    def _exchange(self, submits: bytes, *, data: bool = False) -> asyncio.Future[bytes]:
        """Send; the answer is that of the last submit."""
        self._awaited, self._expects_data = self._sequence, data
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(submits)
        return self._answer

    async def _message(self, kind: int, data: bytes) -> bytes:
        size = _CCID.size + len(data)
        header = _CCID.pack(kind, len(data), 0, self._sequence & 0xFF)
        out = self._submit(_OUT, 1, size) + header + data
        answer = await self._exchange(out + self._submit(_IN, 1, _ROOM), data=True)
        if answer[7] & 0xC0:
            raise ConnectionError(f"the reader failed: bStatus {answer[7]:#x}, bError {answer[8]}")
        return answer[_CCID.size :]
