# SPDX-License-Identifier: LGPL-2.1-or-later
"""libpcsclite's wire spoken by hand, so that a test can say what the library never would.

Written from the protocol's description, a struct for each message, and not from vccid's own.
"""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from types import TracebackType

PATIENCE = 10.0

#: command: struct of the body
ESTABLISH, RELEASE, CONNECT, RECONNECT, DISCONNECT = 0x01, 0x02, 0x04, 0x05, 0x06
BEGIN, END, TRANSMIT, CONTROL, STATUS, CANCEL = 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0D
GET_ATTRIB, SET_ATTRIB, VERSION = 0x0F, 0x10, 0x11
STATES, WAIT, STOP, EVENTS, SIZE, ARRAY = 0x12, 0x13, 0x14, 0x15, 0x16, 0x17

ENTRY_SIZE = 184
EXCLUSIVE, SHARED, DIRECT = 1, 2, 3
T0, T1, RAW = 1, 2, 4
LEAVE, RESET, UNPOWER, EJECT = 0, 1, 2, 3

SUCCESS = 0
CANCELLED = 0x80100002
INVALID_HANDLE = 0x80100003
INSUFFICIENT_BUFFER = 0x80100008
UNKNOWN_READER = 0x80100009
SHARING_VIOLATION = 0x8010000B
NO_SMARTCARD = 0x8010000C
PROTO_MISMATCH = 0x8010000F
INVALID_VALUE = 0x80100011
NOT_TRANSACTED = 0x80100016
SERVICE_STOPPED = 0x8010001E
UNSUPPORTED_FEATURE = 0x8010001F
NO_MEMORY = 0x80100006
UNPOWERED_CARD = 0x80100067
RESET_CARD = 0x80100068
REMOVED_CARD = 0x80100069
SECURITY_VIOLATION = 0x8010006A


class RawClient:
    """One connection; a context manager.

    Attributes:
        context: hContext, once established.
        minor: of the protocol version.
    """

    def __init__(self, path: Path, minor: int = 4) -> None:
        self.minor = minor
        self.context = 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.socket.connect(str(path))
            except BlockingIOError:  # its backlog is full
                assert time.monotonic() < deadline
                time.sleep(0.001)
            else:
                break

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, command: int, body: bytes = b"", behind: bytes = b"") -> None:
        self.socket.sendall(struct.pack("=II", len(body), command) + body + behind)

    def receive(self, size: int) -> bytes:
        """Exactly so many bytes; fewer where the other side hung up."""
        data = b""
        while len(data) < size:
            try:
                piece = self.socket.recv(size - len(data))
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return data

    def silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes for a while."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1) is None
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)

    def hung_up(self) -> bool:
        """Whether the other side ends the connection, with nothing more to say."""
        return self.receive(1) == b""

    def ask(self, command: int, layout: str, *values: object, behind: bytes = b"") -> list[int]:
        """The numbers of the answer, which has the request's struct."""
        body = struct.pack(layout, *values)
        self.send(command, body, behind)
        return list(struct.unpack(layout, self.receive(len(body))))

    def version(self) -> tuple[int, int, int]:
        major, minor, rv = self.ask(VERSION, "=iiI", 4, self.minor, 0)
        return major, minor, rv

    def establish(self) -> int:
        """VERSION and ESTABLISH."""
        assert self.version() == (4, self.minor, SUCCESS)
        _, self.context, rv = self.ask(ESTABLISH, "=III", 2, 0, 0)
        assert rv == SUCCESS
        return self.context

    def connect(
        self, name: str, mode: int = SHARED, protocols: int = T0 | T1
    ) -> tuple[int, int, int]:
        """rv, hCard, dwActiveProtocol."""
        self.begin_connect(name, mode, protocols)
        return self.end_connect()

    def begin_connect(self, name: str, mode: int = SHARED, protocols: int = T0 | T1) -> None:
        body = (self.context, name.encode(), mode, protocols, 0, 0, 0)
        self.send(CONNECT, struct.pack("=I128sIIiII", *body))

    def end_connect(self) -> tuple[int, int, int]:
        *_, handle, protocol, rv = struct.unpack("=I128sIIiII", self.receive(152))
        return rv, handle, protocol

    def reconnect(
        self, card: int, mode: int = SHARED, protocols: int = T0 | T1, initialization: int = LEAVE
    ) -> int:
        return self.ask(RECONNECT, "=iIIIII", card, mode, protocols, initialization, 0, 0)[-1]

    def disconnect(self, card: int, disposition: int = LEAVE) -> int:
        return self.ask(DISCONNECT, "=iII", card, disposition, 0)[-1]

    def begin(self, card: int) -> int:
        return self.ask(BEGIN, "=iI", card, 0)[-1]

    def send_begin(self, card: int) -> None:
        self.send(BEGIN, struct.pack("=iI", card, 0))

    def answer_begin(self) -> int:
        return int(struct.unpack("=iI", self.receive(8))[1])

    def end(self, card: int, disposition: int = LEAVE) -> int:
        return self.ask(END, "=iII", card, disposition, 0)[-1]

    def status(self, card: int) -> int:
        return self.ask(STATUS, "=iI", card, 0)[-1]

    def send_transmit(self, card: int, command: bytes, protocol: int = T0, room: int = 258) -> None:
        body = struct.pack("=iIIIIIII", card, protocol, 16, len(command), 3, 16, room, 0)
        self.send(TRANSMIT, body, command)

    def answer_transmit(self) -> tuple[int, bytes]:
        *_, length, rv = struct.unpack("=iIIIIIII", self.receive(32))
        return rv, self.receive(length) if rv == SUCCESS else b""

    def transmit(
        self, card: int, command: bytes, protocol: int = T0, room: int = 258
    ) -> tuple[int, bytes]:
        self.send_transmit(card, command, protocol, room)
        return self.answer_transmit()

    def send_control(self, card: int, code: int, data: bytes = b"", room: int = 264) -> None:
        self.send(CONTROL, struct.pack("=iIIIII", card, code, len(data), room, 0, 0), data)

    def answer_control(self) -> tuple[int, bytes]:
        *_, length, rv = struct.unpack("=iIIIII", self.receive(24))
        return rv, self.receive(length) if rv == SUCCESS else b""

    def control(
        self, card: int, code: int, data: bytes = b"", room: int = 264
    ) -> tuple[int, bytes]:
        self.send_control(card, code, data, room)
        return self.answer_control()

    def set_attribute(self, card: int, number: int, value: bytes) -> int:
        layout = "=iI264sII"
        self.send(SET_ATTRIB, struct.pack(layout, card, number, value, len(value), 0))
        return int(struct.unpack(layout, self.receive(280))[-1])

    def attribute(self, card: int, number: int) -> tuple[int, bytes]:
        body = (card, number, b"", 264, 0)
        self.send(GET_ATTRIB, struct.pack("=iI264sII", *body))
        *_, value, length, rv = struct.unpack("=iI264sII", self.receive(280))
        return rv, value[:length] if rv == SUCCESS else b""

    def cancel(self, context: int) -> int:
        return self.ask(CANCEL, "=II", context, 0)[-1]

    # -- states and waiting --------------------------------------------------------------------

    def states(self) -> dict[str, tuple[int, int, int, bytes, int]]:
        """By name: counter, state, sharing, ATR, protocol."""
        if self.minor < 6:
            self.send(STATES)
            return self._entries(16)
        return self.array()

    def array(self) -> dict[str, tuple[int, int, int, bytes, int]]:
        """SIZE and ARRAY of 4:6."""
        self.send(SIZE)
        (number,) = struct.unpack("=i", self.receive(4))
        self.send(ARRAY)
        return self._entries(number)

    def _entries(self, number: int) -> dict[str, tuple[int, int, int, bytes, int]]:
        data = self.receive(number * ENTRY_SIZE)
        found = {}
        for name, *rest in struct.iter_unpack("=128sIIi33s3xII", data):
            counter, state, sharing, atr, length, protocol = rest
            if name[0]:
                text = name.rstrip(b"\0").decode()
                found[text] = (counter, state, sharing, atr[:length], protocol)
        return found

    def wait_for_change(self) -> dict[str, tuple[int, int, int, bytes, int]]:
        """Begin to wait; returns the states that come with it."""
        self.send(WAIT)
        return self._entries(16) if self.minor < 6 else self.array()

    def signal(self) -> tuple[int, int]:
        """What ends the wait: reader events, rv."""
        events, rv = struct.unpack("=II", self.receive(8))
        return events, rv

    def stop(self) -> None:
        """STOP; whether an answer comes depends."""
        self.send(STOP)

    def reader_events(self) -> int:
        self.send(EVENTS)
        return self.signal()[0]
