# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver's commands connection (docs/ifd-protocol.md), spoken without pcscd or the driver."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType

from tests.answers import Answer
from vccid.wire.ifd import HEADER, HELLO, MAGIC, VERSION, Kind, Role, Status


class Gone(Exception):
    """The daemon closed the connection, or is not there."""


class IfdClient:
    """A host of one reader, with a session of its own once it has powered the card on."""

    def __init__(self, path: Path, timeout: float = 10) -> None:
        """Connect.

        Raises:
            Gone: nobody listens at `path`.
        """
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self.close()
            raise Gone(str(error)) from error
        self._send(Kind.HELLO, HELLO.pack(MAGIC, VERSION, Role.COMMANDS))
        self._receive(Kind.HELLO)

    def __enter__(self) -> IfdClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave, which ends the session. May be repeated."""
        self._socket.close()

    def power_on(self) -> bytes | None:
        """The card's ATR, or None where the reader is empty."""
        self._send(Kind.POWER_ON, b"")
        status, payload = self._receive(Kind.POWER_ON)
        return payload if status == Status.OK else None

    def transmit(self, command: bytes) -> Answer:
        """Exchange an APDU."""
        self.begin(command)
        return Answer(self.finish(), command)

    def begin(self, command: bytes) -> None:
        """Send an APDU; `finish` has its answer."""
        self._send(Kind.TRANSMIT, command)

    def finish(self) -> bytes:
        """The answer to the APDU begun.

        Raises:
            Gone: the daemon went away before it answered.
        """
        status, payload = self._receive(Kind.TRANSMIT)
        assert status == Status.OK, f"status {status}"
        return payload

    def _send(self, kind: Kind, payload: bytes) -> None:
        try:
            self._socket.sendall(HEADER.pack(kind, Status.OK, len(payload)) + payload)
        except OSError as error:
            raise Gone(str(error)) from error

    def _receive(self, wanted: Kind) -> tuple[int, bytes]:
        while True:
            kind, status, length = HEADER.unpack(self._exactly(HEADER.size))
            payload = self._exactly(length)
            if kind != Kind.BUSY:
                assert kind == wanted, f"a frame of kind {kind:#04x}"
                return status, payload

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self._socket.recv(count - len(data))
            except ConnectionError as error:
                raise Gone(str(error)) from error
            if not more:
                raise Gone("the daemon closed the connection")
            data += more
        return data
