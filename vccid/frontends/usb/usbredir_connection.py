# SPDX-License-Identifier: LGPL-2.1-or-later
"""One connection to a usb-guest: QEMU's usb-redir plugs our USB device into its machine."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from vccid import __version__
from vccid.errors import ProtocolError, RemoteProtocolError
from vccid.frontends.dialling import Link, Timing, log_of
from vccid.frontends.usb.usb_host import UsbHost, UsbReader
from vccid.transport import peer_name
from vccid.usb import descriptors
from vccid.usb.transfers import Completion, Setup, Status, Transfer
from vccid.wire import usbredir
from vccid.wire.usbredir import Type

_log = logging.getLogger(__name__)

#: Transfers a guest may have under way at once.
_MAX_PENDING: Final = 256
#: Bytes the guest may leave unread before nothing more is taken from it: a stopped machine
#: reads nothing.
_WRITE_LIMIT: Final = 3 * 65_600
#: Our own transfer that waits for the interrupt endpoint; the guest's ids are not negative.
_INTERRUPT_ID: Final = -1
#: Our own control transfers for the messages that stand for one.
_REQUEST_ID: Final = -2

_STATUS: Final = {
    Status.DONE: usbredir.Status.SUCCESS,
    Status.STALL: usbredir.Status.STALL,
    Status.OVERFLOW: usbredir.Status.BABBLE,
}
_SPEED: Final = {
    descriptors.Speed.FULL: usbredir.Speed.FULL,
    descriptors.Speed.HIGH: usbredir.Speed.HIGH,
    descriptors.Speed.SUPER: usbredir.Speed.SUPER,
}
#: message -> bmRequestType, bRequest (USB 2.0, table 9-4), status message, and which of its
#: values are wValue and wIndex
_STANDARD: Final = {
    Type.SET_CONFIGURATION: (0x00, 0x09, Type.CONFIGURATION_STATUS),
    Type.GET_CONFIGURATION: (0x80, 0x08, Type.CONFIGURATION_STATUS),
    Type.SET_ALT_SETTING: (0x01, 0x0B, Type.ALT_SETTING_STATUS),
    Type.GET_ALT_SETTING: (0x81, 0x0A, Type.ALT_SETTING_STATUS),
}


class RedirLink(Link):
    """The side that has the device."""

    def __init__(self, reader: UsbReader, peer: str, timing: Timing) -> None:
        """`peer` is who is called; "" where the guest's QEMU is the one that calls."""
        super().__init__(log_of(_log, reader.name))
        self.rejected = False
        self._reader = reader
        self._peer = peer
        self._timing = timing
        self._codec = usbredir.Codec(f"vccid {__version__}")
        self._host: UsbHost | None = None
        self._endpoints: dict[int, usbredir.EndpointInfo] = {}
        self._pending: dict[int, usbredir.ControlPacket | usbredir.BulkPacket] = {}
        self._standard: Callable[[Completion], None] | None = None
        self._receiving = False
        self._notifications = 0
        self._acknowledged = asyncio.Event()
        self._handlers: dict[Type, Callable[[usbredir.Request], None]] = {
            Type.RESET: self._reset,
            Type.START_INTERRUPT_RECEIVING: self._start_interrupt,
            Type.STOP_INTERRUPT_RECEIVING: self._stop_interrupt,
            Type.CANCEL_DATA_PACKET: self._cancel,
            Type.START_ISO_STREAM: self._refuse_iso,
            Type.STOP_ISO_STREAM: self._refuse_iso,
            Type.FILTER_REJECT: self._reject,
            Type.DEVICE_DISCONNECT_ACK: lambda request: self._acknowledged.set(),
        }

    # -- Link ------------------------------------------------------------------------

    async def leave(self) -> None:
        """Unplug the device, wait for the guest to have noticed, hang up."""
        try:
            await self._leave()
        finally:
            self._transport.close()

    async def _leave(self) -> None:
        if self._host is not None:
            await self._host.leave()
        if self._host is not None:
            self._cancel_all()
            self._unplug()
            self._transport.write(self._codec.device_disconnect())
            if self._agreed(usbredir.Capability.DEVICE_DISCONNECT_ACK):
                try:
                    async with asyncio.timeout(self._timing.leave):
                        await self._acknowledged.wait()
                except TimeoutError:
                    self.log.warning("%s took no leave in time", self._peer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport.set_write_buffer_limits(high=_WRITE_LIMIT)
        self._peer = self._peer or peer_name(transport)
        self._transport.write(self._codec.hello())

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._codec.feed(data):
                self._handle(message)
        except ProtocolError as error:
            self._end(error)
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._unplug()
        self._acknowledged.set()
        super().connection_lost(error)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # -- messages --------------------------------------------------------------------

    def _handle(self, message: usbredir.Message) -> None:
        if isinstance(message, usbredir.Hello):
            self.log.info("%s is %s", self._peer, message.version)
            self._plug()
        elif isinstance(message, usbredir.Filter):
            self.log.debug("%s takes %s", self._peer, message.rules)
        elif isinstance(message, usbredir.Request) and message.type in self._handlers:
            self._handlers[message.type](message)
        elif self._host is None:
            pass  # sent before it read that the device is gone
        elif isinstance(message, usbredir.Request):
            self._standard_request(self._host, message)
        else:
            self._submit(self._host, message)

    def _plug(self) -> None:
        host = UsbHost(self._reader, "usbredir", self._peer, self._completed)
        self._host = host
        self._endpoints = _endpoints(host)
        identity = self._reader.identity
        self._write_layout()
        self._transport.write(
            self._codec.device_connect(
                _SPEED[host.device.speed],
                (0, 0, 0),
                identity.vendor_id,
                identity.product_id,
                identity.release,
            )
        )
        if not self._agreed(usbredir.XHCI):
            self.log.warning("%s is too old for a device at an xHCI port", self._peer)
        self._made_ready()

    def _unplug(self) -> None:
        host, self._host = self._host, None
        self._pending.clear()
        self._receiving = False
        if host is not None:
            host.close()

    def _agreed(self, capability: usbredir.Capability) -> bool:
        return self._codec.common is not None and capability in self._codec.common

    def _write_layout(self) -> None:
        """ep_info and interface_info: before device_connect and each change of setting."""
        self._transport.write(
            self._codec.ep_info(self._endpoints) + self._codec.interface_info((descriptors.CLASS,))
        )

    # -- transfers -------------------------------------------------------------------

    def _submit(self, host: UsbHost, packet: usbredir.DataPacket) -> None:
        if packet.id in self._pending:
            raise RemoteProtocolError(f"usbredir packet id {packet.id} twice")
        if len(self._pending) >= _MAX_PENDING:
            raise RemoteProtocolError(f"more than {_MAX_PENDING} packets at once")
        if isinstance(packet, usbredir.ControlPacket):
            setup = Setup.STRUCT.pack(
                packet.request_type, packet.request, packet.value, packet.index, packet.length
            )
            endpoint = 0
        elif isinstance(packet, usbredir.BulkPacket) and packet.endpoint in (
            descriptors.BULK_OUT,
            descriptors.BULK_IN,
        ):
            setup, endpoint = b"", packet.endpoint & 0x0F
        else:
            self._answer(packet, usbredir.Status.INVAL, 0, b"")
            return
        self._pending[packet.id] = packet
        host.submit(Transfer(packet.id, endpoint, packet.is_in, packet.length, packet.data, setup))

    def _completed(self, completions: list[Completion]) -> None:
        for completion in completions:
            id_ = completion.transfer.id
            if id_ == _INTERRUPT_ID:
                self._notify(completion)
            elif id_ == _REQUEST_ID:
                if self._standard is not None:
                    self._standard(completion)
            else:
                packet = self._pending.pop(id_)
                status = _STATUS[completion.status]
                self._answer(packet, status, completion.length, completion.data)

    def _answer(
        self, packet: usbredir.DataPacket, status: usbredir.Status, length: int, data: bytes
    ) -> None:
        """The packet itself goes back, with what became of it."""
        answer = replace(packet, status=status, length=length, data=data)
        self._transport.write(self._codec.packet(answer))

    def _cancel(self, request: usbredir.Request) -> None:
        # Answered already: nothing more, the guest has freed the id with that answer.
        if self._host is not None and request.id in self._pending:
            self._host.cancel(request.id)
            self._answer(self._pending.pop(request.id), usbredir.Status.CANCELLED, 0, b"")

    def _cancel_all(self) -> None:
        for id_ in tuple(self._pending):
            self._cancel(usbredir.Request(Type.CANCEL_DATA_PACKET, id_))

    # -- requests --------------------------------------------------------------------

    def _standard_request(self, host: UsbHost, request: usbredir.Request) -> None:
        """Those messages that stand for a standard control request."""
        request_type, code, answer = _STANDARD[request.type]
        value = index = 0
        match request.type, request.values:
            case Type.SET_CONFIGURATION, (value,):
                pass
            case Type.SET_ALT_SETTING, (index, value):
                pass
            case Type.GET_ALT_SETTING, (index,):
                pass
        is_in = bool(request_type & 0x80)
        setup = Setup.STRUCT.pack(request_type, code, value, index, is_in)
        interface = (index,) if answer is Type.ALT_SETTING_STATUS else ()
        self._standard = partial(self._standard_done, request, answer, interface, value)
        host.submit(Transfer(_REQUEST_ID, 0, is_in, int(is_in), setup=setup))

    def _standard_done(
        self,
        request: usbredir.Request,
        answer: Type,
        interface: tuple[int, ...],
        value: int,
        completion: Completion,
    ) -> None:
        done = completion.status is Status.DONE
        if done:
            self._write_layout()
        status = usbredir.Status.SUCCESS if done else usbredir.Status.INVAL
        setting = completion.data[0] if completion.data else value
        self._transport.write(self._codec.status(answer, request.id, status, *interface, setting))

    def _reset(self, request: usbredir.Request) -> None:
        if self._host is None:
            return
        self._cancel_all()
        self._stream_ended()
        self._host.reset()

    def _refuse_iso(self, request: usbredir.Request) -> None:
        self._transport.write(
            self._codec.status(
                Type.ISO_STREAM_STATUS, request.id, usbredir.Status.INVAL, request.values[0]
            )
        )

    def _reject(self, request: usbredir.Request) -> None:
        self.rejected = True
        self.log.warning(
            "%s refuses the device: its filter, or its controller, does not take it", self._peer
        )
        self._unplug()

    # -- the interrupt endpoint ------------------------------------------------------

    def _start_interrupt(self, request: usbredir.Request) -> None:
        (endpoint,) = request.values
        host = self._host
        if host is None:
            return
        status = usbredir.Status.SUCCESS
        if endpoint != descriptors.INTERRUPT_IN:
            status = usbredir.Status.INVAL
        elif not host.device.configured:
            status = usbredir.Status.STALL
        self._interrupt_status(request.id, status, endpoint)
        if status is usbredir.Status.SUCCESS and not self._receiving:
            self._receiving = True
            self._await_notification(host)

    def _stop_interrupt(self, request: usbredir.Request) -> None:
        (endpoint,) = request.values
        if self._host is None:
            return
        if endpoint == descriptors.INTERRUPT_IN and self._receiving:
            self._receiving = False
            self._host.cancel(_INTERRUPT_ID)
        self._interrupt_status(request.id, usbredir.Status.SUCCESS, endpoint)

    def _await_notification(self, host: UsbHost) -> None:
        number = descriptors.INTERRUPT_IN & 0x0F
        host.submit(
            Transfer(
                _INTERRUPT_ID,
                number,
                True,
                self._endpoints[descriptors.INTERRUPT_IN].max_packet_size,
            )
        )

    def _notify(self, completion: Completion) -> None:
        if completion.status is not Status.DONE:
            self._stream_ended()
            return
        self._transport.write(
            self._codec.packet(
                usbredir.InterruptPacket(
                    self._notifications,
                    descriptors.INTERRUPT_IN,
                    completion.length,
                    completion.data,
                )
            )
        )
        self._notifications += 1
        if self._receiving and self._host is not None:
            self._await_notification(self._host)

    def _stream_ended(self) -> None:
        """Not by a stop: "stall" is the sign agreed for that, and the guest starts it anew."""
        if self._receiving and self._host is not None:
            self._receiving = False
            self._host.cancel(_INTERRUPT_ID)
            self._interrupt_status(0, usbredir.Status.STALL, descriptors.INTERRUPT_IN)

    def _interrupt_status(self, id_: int, status: usbredir.Status, endpoint: int) -> None:
        self._transport.write(
            self._codec.status(Type.INTERRUPT_RECEIVING_STATUS, id_, status, endpoint)
        )


def _endpoints(host: UsbHost) -> dict[int, usbredir.EndpointInfo]:
    """What the configuration descriptor says of each endpoint (USB 2.0, 9.6.6), and endpoint 0."""
    control = usbredir.EndpointInfo(usbredir.EndpointType.CONTROL, 0, 0, 64)
    found = {0x00: control, 0x80: control}
    raw = host.device.descriptors.get(descriptors.DescriptorType.CONFIGURATION, 0, 0) or b""
    while raw:
        size, kind = raw[0], raw[1]
        if kind == descriptors.DescriptorType.ENDPOINT:
            address, attributes, packet, interval = struct.unpack("<BBHB", raw[2:size])
            type_ = usbredir.EndpointType(attributes & 0x03)
            found[address] = usbredir.EndpointInfo(type_, interval, 0, packet)
        raw = raw[size:]
    return found
