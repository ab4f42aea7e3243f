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
from vccid.frontends.usb.usbredir_states import USBREDIR_CONNECTION, Event, State
from vccid.links.transport import peer_name
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
    """The side that has the device.

    Attributes:
        state: where it stands.
        host: the guest, while the device is plugged in.
    """

    def __init__(
        self,
        reader: UsbReader,
        peer: str,
        timing: Timing,
        given_up: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            peer: who is called; "" where the guest's QEMU is the one that calls.
            given_up: as of UsbHost.
        """
        super().__init__(log_of(_log, reader.name))
        self.state = USBREDIR_CONNECTION.initial
        self.host: UsbHost | None = None
        self._reader = reader
        self._peer = peer
        self._timing = timing
        self._given_up = given_up
        self._codec = usbredir.Codec(f"vccid {__version__}")
        self._packets = _Packets(self._write, self._codec)
        self._stream = _InterruptStream(self, self._write, self._codec)
        self._standard = _StandardRequests(self._write, self._codec, self._write_layout)
        self._acknowledged = asyncio.Event()
        self._handlers: dict[Type, Callable[[usbredir.Request], None]] = {
            Type.RESET: self._reset,
            Type.START_INTERRUPT_RECEIVING: self._stream.start,
            Type.STOP_INTERRUPT_RECEIVING: self._stream.stop,
            Type.CANCEL_DATA_PACKET: self._cancel,
            Type.START_ISO_STREAM: self._refuse_iso,
            Type.STOP_ISO_STREAM: self._refuse_iso,
            Type.FILTER_REJECT: self._reject,
            Type.DEVICE_DISCONNECT_ACK: lambda request: self._acknowledged.set(),
        }

    def move(self, event: Event) -> None:
        """Go where the table says."""
        self.state = USBREDIR_CONNECTION.after(self.state, event)

    # -- Link ------------------------------------------------------------------------

    async def leave(self) -> None:
        """Unplug the device, wait for the guest to have noticed, hang up."""
        try:
            await self._leave()
        finally:
            self._transport.close()

    async def _leave(self) -> None:
        if self.host is not None:
            await self.host.leave()
        if self.host is not None:
            self._packets.cancel_all(self.host)
            self._unplug(Event.LEAVE)
            self._write(self._codec.device_disconnect())
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
        self._write(self._codec.hello())

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._codec.feed(data):
                self._handle(message)
        except ProtocolError as error:
            self._end(error)
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._unplug(Event.LOST)
        self._acknowledged.set()
        super().connection_lost(error)

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _write(self, data: bytes) -> None:
        self._transport.write(data)

    # -- messages --------------------------------------------------------------------

    def _handle(self, message: usbredir.Message) -> None:
        if isinstance(message, usbredir.Hello):
            self.log.info("%s is %s", self._peer, message.version)
            self._plug()
        elif isinstance(message, usbredir.Filter):
            self.log.debug("%s takes %s", self._peer, message.rules)
        elif isinstance(message, usbredir.Request) and message.type in self._handlers:
            self._handlers[message.type](message)
        elif self.host is None:
            pass  # sent before it read that the device is gone
        elif isinstance(message, usbredir.Request):
            self._standard.submit(self.host, message)
        else:
            self._packets.submit(self.host, message)

    def _plug(self) -> None:
        self.move(Event.HELLO)
        host = UsbHost(self._reader, "usbredir", self._peer, self._completed, self._given_up)
        self.host = host
        identity = self._reader.identity
        self._write_layout(host)
        self._write(
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

    def _unplug(self, event: Event) -> None:
        self.move(event)
        host, self.host = self.host, None
        self._packets.forget()
        if host is not None:
            host.close()

    def _agreed(self, capability: usbredir.Capability) -> bool:
        return self._codec.common is not None and capability in self._codec.common

    def _write_layout(self, host: UsbHost) -> None:
        """ep_info and interface_info: before device_connect and each change of setting."""
        self._write(
            self._codec.ep_info(_endpoints(host)) + self._codec.interface_info((descriptors.CLASS,))
        )

    # -- requests --------------------------------------------------------------------

    def _reset(self, request: usbredir.Request) -> None:
        if self.host is None:
            return
        self._packets.cancel_all(self.host)
        self._stream.ended()
        self.host.reset()

    def _refuse_iso(self, request: usbredir.Request) -> None:
        self._write(
            self._codec.status(
                Type.ISO_STREAM_STATUS, request.id, usbredir.Status.INVAL, request.values[0]
            )
        )

    def _reject(self, request: usbredir.Request) -> None:
        self.log.warning(
            "%s refuses the device: its filter, or its controller, does not take it", self._peer
        )
        self._unplug(Event.FILTER_REJECT)

    def _cancel(self, request: usbredir.Request) -> None:
        if self.host is not None:
            self._packets.cancel(self.host, request.id)

    def _completed(self, completions: list[Completion]) -> None:
        for completion in completions:
            id_ = completion.transfer.id
            if id_ == _INTERRUPT_ID:
                self._stream.completed(completion)
            elif id_ == _REQUEST_ID:
                self._standard.completed(completion)
            else:
                self._packets.completed(completion)


class _StandardRequests:
    """Those messages that stand for a standard control request; each ends before the next."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        codec: usbredir.Codec,
        write_layout: Callable[[UsbHost], None],
    ) -> None:
        """`write_layout` is called after each change of setting."""
        self._write = write
        self._codec = codec
        self._write_layout = write_layout
        self._ended: Callable[[Completion], None] = lambda completion: None

    def submit(self, host: UsbHost, request: usbredir.Request) -> None:
        """Hand one to the device."""
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
        self._ended = partial(self._answer, host, request, answer, interface, value)
        host.submit(Transfer(_REQUEST_ID, 0, is_in, int(is_in), setup=setup))

    def completed(self, completion: Completion) -> None:
        """The device is through with it."""
        self._ended(completion)

    def _answer(
        self,
        host: UsbHost,
        request: usbredir.Request,
        answer: Type,
        interface: tuple[int, ...],
        value: int,
        completion: Completion,
    ) -> None:
        done = completion.status is Status.DONE
        if done:
            self._write_layout(host)
        status = usbredir.Status.SUCCESS if done else usbredir.Status.INVAL
        setting = completion.data[0] if completion.data else value
        self._write(self._codec.status(answer, request.id, status, *interface, setting))


class _Packets:
    """The guest's data packets that are under way."""

    def __init__(self, write: Callable[[bytes], None], codec: usbredir.Codec) -> None:
        self._write = write
        self._codec = codec
        self._pending: dict[int, usbredir.ControlPacket | usbredir.BulkPacket] = {}

    def submit(self, host: UsbHost, packet: usbredir.DataPacket) -> None:
        """Hand one to the device.

        Raises:
            RemoteProtocolError: its id is taken, or there are too many.
        """
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

    def completed(self, completion: Completion) -> None:
        """The device is through with one."""
        packet = self._pending.pop(completion.transfer.id)
        self._answer(packet, _STATUS[completion.status], completion.length, completion.data)

    def _answer(
        self, packet: usbredir.DataPacket, status: usbredir.Status, length: int, data: bytes
    ) -> None:
        """The packet itself goes back, with what became of it."""
        answer = replace(packet, status=status, length=length, data=data)
        self._write(self._codec.packet(answer))

    def cancel(self, host: UsbHost, id_: int) -> None:
        """Give one up."""
        # Answered already: nothing more, the guest has freed the id with that answer.
        if id_ in self._pending:
            host.cancel(id_)
            self._answer(self._pending.pop(id_), usbredir.Status.CANCELLED, 0, b"")

    def cancel_all(self, host: UsbHost) -> None:
        """Give all up."""
        for id_ in tuple(self._pending):
            self.cancel(host, id_)

    def forget(self) -> None:
        """The device is no longer there, nobody is answered."""
        self._pending.clear()


class _InterruptStream:
    """The guest listens at the interrupt endpoint, until it stops or the stream ends by itself."""

    def __init__(
        self, link: RedirLink, write: Callable[[bytes], None], codec: usbredir.Codec
    ) -> None:
        self._link = link
        self._write = write
        self._codec = codec
        self._notifications = 0
        self._packet_size = 0

    def start(self, request: usbredir.Request) -> None:
        """start_interrupt_receiving."""
        (endpoint,) = request.values
        host = self._link.host
        if host is None:
            return
        status = usbredir.Status.SUCCESS
        if endpoint != descriptors.INTERRUPT_IN:
            status = usbredir.Status.INVAL
        elif not host.device.configured:
            status = usbredir.Status.STALL
        self._tell(request.id, status, endpoint)
        if status is usbredir.Status.SUCCESS and self._link.state is State.PLUGGED:
            self._link.move(Event.START_INTERRUPT_RECEIVING)
            self._packet_size = _endpoints(host)[descriptors.INTERRUPT_IN].max_packet_size
            self._await_notification(host)

    def stop(self, request: usbredir.Request) -> None:
        """stop_interrupt_receiving."""
        (endpoint,) = request.values
        if self._link.host is None:
            return
        if endpoint == descriptors.INTERRUPT_IN and self._link.state is State.RECEIVING:
            self._link.move(Event.STOP_INTERRUPT_RECEIVING)
            self._link.host.cancel(_INTERRUPT_ID)
        self._tell(request.id, usbredir.Status.SUCCESS, endpoint)

    def completed(self, completion: Completion) -> None:
        """The device told something, or the endpoint halted."""
        if completion.status is not Status.DONE:
            self.ended()
            return
        self._write(
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
        if self._link.state is State.RECEIVING and self._link.host is not None:
            self._await_notification(self._link.host)

    def ended(self) -> None:
        """Not by a stop: "stall" is the sign agreed for that, and the guest starts it anew."""
        if self._link.state is State.RECEIVING and self._link.host is not None:
            self._link.move(Event.STREAM_ENDED)
            self._link.host.cancel(_INTERRUPT_ID)
            self._tell(0, usbredir.Status.STALL, descriptors.INTERRUPT_IN)

    def _await_notification(self, host: UsbHost) -> None:
        number = descriptors.INTERRUPT_IN & 0x0F
        host.submit(Transfer(_INTERRUPT_ID, number, True, self._packet_size))

    def _tell(self, id_: int, status: usbredir.Status, endpoint: int) -> None:
        self._write(self._codec.status(Type.INTERRUPT_RECEIVING_STATUS, id_, status, endpoint))


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
