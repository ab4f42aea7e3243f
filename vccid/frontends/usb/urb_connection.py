# SPDX-License-Identifier: LGPL-2.1-or-later
"""The URB phase of USB/IP over one stream, from this host's kernel or another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from vccid.errors import RemoteProtocolError
from vccid.frontends.usb.usb_host import UsbHost, UsbReader
from vccid.usb.transfers import Completion, Status, Transfer
from vccid.wire import usbip

#: Transfers a host may have under way at once. libccid has 2, Windows' driver a handful.
MAX_PENDING: Final = 256
#: Bytes of the OUT transfers among them, in sum: sixteen of the longest commands.
MAX_HELD: Final = 1 << 20

_STATUS: Final = {
    Status.DONE: usbip.UrbStatus.OK,
    Status.STALL: usbip.UrbStatus.STALL,
    Status.OVERFLOW: usbip.UrbStatus.OVERFLOW,
}


class UrbLink:
    """One attached device: URBs in, answers out through the transport."""

    def __init__(
        self,
        reader: UsbReader,
        kind: str,
        peer: str,
        transport: asyncio.WriteTransport,
        given_up: Callable[[], None] | None = None,
    ) -> None:
        """`kind`, `peer`, `given_up`: as of UsbHost."""
        self._transport = transport
        self._pending: dict[int, int] = {}
        self._unlinkable = 0
        self._host = UsbHost(reader, kind, peer, self._completed, given_up)

    def received(self, messages: list[usbip.UrbMessage]) -> None:
        """Take what came.

        Raises:
            RemoteProtocolError: the peer asks for what no kernel asks for.
        """
        for message in messages:
            if type(message) is usbip.Submit:
                self._submit(message)
            elif isinstance(message, usbip.Unlink):
                self._unlink(message)

    async def leave(self) -> None:
        """As UsbHost.leave."""
        await self._host.leave()

    def close(self) -> None:
        """The host is gone."""
        self._host.close()

    def _submit(self, message: usbip.Submit) -> None:
        if message.seqnum in self._pending:
            raise RemoteProtocolError(f"sequence number {message.seqnum} twice")
        if len(self._pending) >= MAX_PENDING:
            raise RemoteProtocolError(f"more than {MAX_PENDING} transfers at once")
        if message.data and sum(self._pending.values()) + len(message.data) > MAX_HELD:
            raise RemoteProtocolError(f"more than {MAX_HELD} bytes on their way at once")
        self._unlinkable += 1
        if message.isochronous:
            self._write(usbip.reply_submit(message.seqnum, usbip.UrbStatus.INVALID, 0))
            return
        self._pending[message.seqnum] = len(message.data)
        self._host.submit(
            Transfer(
                message.seqnum,
                message.endpoint,
                message.is_in,
                message.length,
                message.data,
                message.setup,
            )
        )

    def _unlink(self, message: usbip.Unlink) -> None:
        """Answered or cancelled, never both: what was cancelled gets no RET_SUBMIT any more."""
        if self._unlinkable == 0:
            raise RemoteProtocolError("more unlinks than submits")
        self._unlinkable -= 1
        cancelled = self._host.cancel(message.victim)
        self._pending.pop(message.victim, None)
        status = usbip.UrbStatus.UNLINKED if cancelled else usbip.UrbStatus.OK
        self._write(usbip.reply_unlink(message.seqnum, status))

    def _completed(self, completions: list[Completion]) -> None:
        answers = b""
        for completion in completions:
            seqnum = completion.transfer.id
            self._pending.pop(seqnum, None)
            answers += usbip.reply_submit(
                seqnum, _STATUS[completion.status], completion.length, completion.data
            )
        self._write(answers)

    def _write(self, answers: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answers)
