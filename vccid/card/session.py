# SPDX-License-Identifier: LGPL-2.1-or-later
"""One host's session with a card of ours: from a command's bytes to the selected applet.

What all applets share is here: the class byte, command chaining, GET RESPONSE, SELECT by name,
the verified flag, and waiting for a key without outliving the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Final, TypeVar

from vccid.card.applet import SELECT_BY_NAME, Applet
from vccid.card.card import Session
from vccid.card.pin import Pin
from vccid.errors import CardRemoved, RemoteProtocolError
from vccid.iso7816 import status
from vccid.iso7816.apdu import INS_GET_RESPONSE, Command

T = TypeVar("T")

_PLAIN, _CHAINED, _RESERVED, _CHANNEL, _SECURE = range(5)


def _class_kind(cla: int) -> int:
    """What a class byte asks for (ISO/IEC 7816-4:2020, 5.4.1; GSC-IS 2.1, 5.3.3 for 80)."""
    if 0x40 <= cla <= 0x7F:  # further interindustry: always a channel from 4 on
        return _SECURE if cla & 0x20 else _CHANNEL
    if cla & 0xF0 in (0x00, 0x10, 0x80, 0x90, 0xA0):
        if cla & 0x0C:
            return _SECURE
        if cla & 0x03:
            return _CHANNEL
        return _CHAINED if cla & 0xF0 in (0x10, 0x90) else _PLAIN
    if cla & 0xF0 in (0xB0, 0xC0):
        return _PLAIN
    return _RESERVED


_CLASS_KINDS: Final = tuple(_class_kind(cla) for cla in range(256))

_MAX_CHAIN: Final = 0xFFFF


class Selection:
    """What lasts while one applet is selected.

    Attributes:
        object_index: which of the applet's objects is current.
        blocks: what SIGN/DECRYPT has been given so far.
        certificate_offset: how far GET CERTIFICATE has come.
    """

    __slots__ = ("blocks", "certificate_offset", "object_index")

    def __init__(self) -> None:
        self.object_index = 0
        self.blocks = b""
        self.certificate_offset = 0


class CardSession(Session):
    """A session with a card made of applets.

    Attributes:
        pin: the card's PIN.
        serial: the card's serial number, for the log.
        applet: the selected one.
        selection: its state.
        verified: whether this session has proved the PIN.
    """

    def __init__(
        self, atr: bytes, serial: str, pin: Pin, applets: Mapping[bytes, Applet], none: Applet
    ) -> None:
        """Power on.

        Args:
            atr: answer to reset.
            serial: the card's serial number.
            pin: the card's PIN.
            applets: by AID.
            none: stands for no applet.
        """
        self.pin = pin
        self.serial = serial
        self.applet = none
        self.selection = Selection()
        self.verified = False
        self._atr = atr
        self._applets = applets
        self._none = none
        self._pending = b""
        self._chain: Command | None = None
        self._over = False
        self._waiting: asyncio.Future[None] | None = None

    @property
    def atr(self) -> bytes:
        return self._atr

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        if self._over:
            raise CardRemoved("the session with the card is over")
        try:
            parsed = Command.parse(command)
        except RemoteProtocolError:
            return status.WRONG_LENGTH
        if _CLASS_KINDS[parsed.cla] or self._chain is not None:
            return self._execute_unusual(parsed)
        return self._dispatch(parsed)

    def close(self) -> None:
        self._over = True
        self.verified = False
        self.applet = self._none
        self.selection = Selection()
        self._pending = b""
        self._chain = None
        if self._waiting is not None:
            _wake(self._waiting)

    def answer(self, data: bytes, le: int) -> bytes:
        """A response of data and 9000, or 61xx alone and the data for GET RESPONSE.

        As libcacard: data longer than Le waits as a whole.
        """
        if len(data) <= le:
            return data + status.SUCCESS
        self._pending = data
        return status.BYTES_AVAILABLE[min(len(data), 256)]

    async def wait_for(self, work: Awaitable[T]) -> T:
        """Wait for blocking work, but no longer than the session lasts.

        Raises:
            CardRemoved: the session was closed meanwhile.
        """
        task = asyncio.ensure_future(work)
        self._waiting = waiting = task.get_loop().create_future()
        task.add_done_callback(lambda done: _wake(waiting))
        try:
            await waiting
            if self._over:
                raise CardRemoved("the card was removed during a command")
            return task.result()
        finally:
            self._waiting = None
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.exception()  # asked for, so that asyncio does not log it as forgotten

    def select(self, command: Command) -> bytes:
        """SELECT (ISO/IEC 7816-4:2020, 11.2.2) by name. A failed one leaves no applet selected."""
        if command.p1 != SELECT_BY_NAME:
            return status.FUNCTION_NOT_SUPPORTED
        applet = self._applets.get(command.data)
        self.selection = Selection()
        if applet is None:
            self.applet = self._none
            return status.NOT_FOUND
        self.applet = applet
        return self.answer(applet.fci, command.le)

    def get_response(self, command: Command) -> bytes:
        """GET RESPONSE (ISO/IEC 7816-4:2020, 11.7.1); a missing Le is taken for 256."""
        pending = self._pending
        if not pending:
            return status.REFERENCED_DATA_NOT_FOUND
        le = command.le or 256
        self._pending = rest = pending[le:]
        if rest:
            return pending[:le] + status.BYTES_AVAILABLE[min(len(rest), 256)]
        return pending + status.SUCCESS

    def _dispatch(self, command: Command) -> bytes | Awaitable[bytes]:
        ins = command.ins
        if ins != INS_GET_RESPONSE:
            self._pending = b""
        applet = self.applet
        handler = applet.handlers.get(ins)
        return applet.unknown if handler is None else handler(self, command)

    def _execute_unusual(self, command: Command) -> bytes | Awaitable[bytes]:
        """A command with a class byte other than 00 or 80, or with a chain begun before it."""
        kind = _CLASS_KINDS[command.cla]
        chain, self._chain = self._chain, None
        if kind in (_SECURE, _CHANNEL):
            self._pending = b""
            refusals = (status.CHANNEL_NOT_SUPPORTED, status.SECURE_MESSAGING_NOT_SUPPORTED)
            return refusals[kind == _SECURE]
        if kind == _RESERVED:
            # As libcacard: an applet does not look at the class, the card itself does.
            if self.applet.owns(command):
                return self._dispatch(command)
            if command.ins != INS_GET_RESPONSE:
                self._pending = b""
            return status.COMMAND_NOT_ALLOWED
        if kind == _CHAINED and command.ins == INS_GET_RESPONSE:
            return status.COMMAND_NOT_ALLOWED  # nothing to chain: what waits still waits
        # 5.3.3: the parts of a chain differ in nothing but the data and the chaining bit.
        if chain is not None and chain[1:4] == command[1:4]:
            command = command._replace(data=chain.data + command.data)
            if len(command.data) > _MAX_CHAIN:
                return status.WRONG_LENGTH
        if kind == _CHAINED:
            self._pending = b""
            self._chain = command
            return status.SUCCESS
        return self._dispatch(command)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
