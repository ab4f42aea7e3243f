# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VSC client that is not ours: vscclient's loop over Debian's libcacard.

It shares no code with vccid: the messages are written here a second time, from
libcacard's vscard_common.h. Run as a program it is told what to do on standard input:

    python -m tests.peers.vsc_client SOCKET DATABASE
    insert | remove | quit
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.peers.libcacard import POWER_ON, Database, Libcacard

INIT, ERROR, READER_ADD, READER_REMOVE, ATR, CARD_REMOVE, APDU, FLUSH, FLUSH_COMPLETE = range(1, 10)


class VscClient:
    """The client as a child process; `kill` is the worst that can happen to it."""

    def __init__(self, address: Path, database: Database) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", __name__, str(address), str(database.directory)],
            stdin=subprocess.PIPE,
        )

    def tell(self, word: str) -> None:
        """`insert`, `remove` or `quit`."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{word}\n".encode())
        self._child.stdin.flush()

    def kill(self) -> None:
        """End it without a word. May be repeated."""
        self._child.kill()
        self._child.communicate()

    def __enter__(self) -> VscClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def _serve(link: socket.socket, card: Libcacard, reader_known: threading.Event) -> None:
    """What vscclient does with each message of the host."""
    while True:
        header = _exactly(link, 12)
        kind, reader_id, length = struct.unpack(">III", header)
        payload = _exactly(link, length)
        if kind == INIT:
            assert payload[:4] == b"VSCD", payload
            link.sendall(_message(READER_ADD, 0, b"libcacard"))
        elif kind == APDU:
            link.sendall(_message(APDU, reader_id, card.transmit([payload])[0]))
        elif kind == FLUSH:
            link.sendall(_message(FLUSH_COMPLETE, reader_id, b""))
        elif kind == ERROR:
            assert payload == bytes(4), f"the host refused: {payload.hex()}"
            reader_known.set()
        else:
            raise SystemExit(f"the host sent a message of type {kind}")


def _message(kind: int, reader_id: int, payload: bytes) -> bytes:
    return struct.pack(">III", kind, reader_id, len(payload)) + payload


def _exactly(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _main(address: str, directory: str) -> None:
    with socket.socket(socket.AF_UNIX) as link, Libcacard(Database(Path(directory), "")) as card:
        link.connect(address)
        link.sendall(_message(INIT, 0, b"VSCD" + struct.pack(">II", 2, 0)))
        reader_known = threading.Event()
        threading.Thread(target=_serve, args=(link, card, reader_known), daemon=True).start()
        reader_known.wait()
        for line in sys.stdin:
            match line.strip():
                case "insert":
                    link.sendall(_message(ATR, 0, card.transmit([POWER_ON])[0]))
                case "remove":
                    link.sendall(_message(CARD_REMOVE, 0, b""))
                case "quit":
                    link.sendall(_message(READER_REMOVE, 0, b""))
                    return


if __name__ == "__main__":
    _main(*sys.argv[1:])
