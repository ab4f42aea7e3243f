# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader at the end of a serial line, as pcscd's own libccidtwin drives it: a GemPC Twin.

How the line itself comes about is another's affair: bytes come in, bytes go out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from vccid.ccid import gempctwin
from vccid.ccid.codes import CommandStatus
from vccid.ccid.interface import Interface
from vccid.ccid.responses import HEADER
from vccid.frontends.ccid_host import CcidHost
from vccid.frontends.pin_pad import PinPad
from vccid.reader import Reader
from vccid.wire import gempctwin as line

#: Seconds between two bytes of a frame after which the rest will not come.
SILENCE: Final = 1.0
#: Seconds without a command after which the host does not look; pcscd looks every 0.4.
DEAF_AFTER: Final = 3.0


class SerialReader:
    """One reader at one line; a host is there while somebody has the line open.

    Attributes:
        kind: what the line is: "tty" or "pty".
        opened: how often somebody came.
    """

    def __init__(
        self, kind: str, reader: Reader, pin_pad: PinPad | None, send: Callable[[bytes], None]
    ) -> None:
        """`send` puts bytes on the line."""
        self.kind = kind
        self.opened = 0
        self._reader = reader
        self._pin_pad = pin_pad
        self._send = send
        self._host: _Host | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody is at the other end."""
        return self._host is not None

    @property
    def status(self) -> str:
        """How it stands, in a few words."""
        times = "once" if self.opened == 1 else f"{self.opened} times"
        return f"{'open' if self.is_open else 'closed'}, opened {times}"

    def open(self, peer: str) -> None:
        """Somebody came."""
        self.close()
        self.opened += 1
        self._host = _Host(self._reader, self._pin_pad, self._send, self.kind, peer)

    def close(self) -> None:
        """Nobody has the line open. May be repeated."""
        host, self._host = self._host, None
        if host is not None:
            host.close()

    def flush(self) -> None:
        """What was sent and not read is not wanted any more."""
        if self._host is not None:
            self._host.flush()

    def receive(self, data: bytes) -> None:
        """Bytes from the host."""
        if self._host is not None:
            self._host.receive(data)


class _Host:
    """From open to close."""

    def __init__(
        self,
        reader: Reader,
        pin_pad: PinPad | None,
        send: Callable[[bytes], None],
        kind: str,
        peer: str,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._receiver = line.Receiver()
        self._silence: asyncio.TimerHandle | None = None
        self._last = self._loop.time()
        self._asked = 0
        self._interface = Interface(
            gempctwin.descriptor(pin_pad=pin_pad is not None), gempctwin.escape
        )
        self._ccid = CcidHost(
            self._interface, (reader,), (pin_pad,), self._changed, self._is_listening
        )
        self._ccid.attach(kind, peer)

    def close(self) -> None:
        self._stop_waiting()
        self._ccid.detach()

    def flush(self) -> None:
        self._receiver.reset()
        self._stop_waiting()
        if self._asked:  # nobody waits for the answer: it would be taken for the next command's
            self._asked = 0
            self._interface.reset()
            self._changed()

    def receive(self, data: bytes) -> None:
        self._last = self._loop.time()
        self._stop_waiting()
        self._execute(self._receiver.feed(data))
        if self._receiver.is_waiting:
            self._silence = self._loop.call_later(SILENCE, self._fell_silent)

    def _fell_silent(self) -> None:
        self._execute(self._receiver.silence())

    def _execute(self, messages: list[bytes]) -> None:
        for message in messages:
            self._asked += 1
            self._interface.bulk_out(message, ends=True)
            self._changed(line.echo(message))

    def _changed(self, echo: bytes = b"") -> None:
        """Send what there is, let the card work, and again until nothing moves."""
        out = bytearray(echo)
        worked = True
        while worked:
            while (response := self._interface.next_response()) is not None:
                out += self._framed(response)
            worked = self._ccid.work()
        if out:
            self._send(bytes(out))

    def _framed(self, response: bytes) -> bytes:
        _, _, _, _, status, error, _ = HEADER.unpack_from(response)
        if status >> 6 == CommandStatus.TIME_EXTENSION:
            return line.time_request(error)
        self._asked = max(0, self._asked - 1)
        return line.frame(response)

    def _is_listening(self) -> bool:
        return self._loop.time() - self._last < DEAF_AFTER

    def _stop_waiting(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
