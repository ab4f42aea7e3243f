# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real enough cards for a private pcscd: vsmartcard's virtual reader, and what goes into it.

Debian's vpcd is a pcscd driver that takes a card over TCP; its vicc is a card of ISO/IEC
7816. `PinCard` is one more, for what vicc lacks: a PIN that counts its tries.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.peers.private_pcscd import ReaderEntry
from vccid.iso7816 import status

#: Debian installs the module where no Python looks, and it wants pycryptodome's old name.
_VICC_MODULES = "/usr/lib/python3/site-packages/virtualsmartcard"
_DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")

#: What clients of the pcscd call the reader.
READER = "Virtual PCD 00 00"


def vpcd_entry(directory: Path, port: int) -> ReaderEntry:
    """vpcd, waiting for its card at `port` (and for a second slot's at the next)."""
    # A private pcscd sees nothing in the directory of Debian's drivers.
    library = directory / "libifdvpcd.so"
    shutil.copy(_DRIVER, library)
    return ReaderEntry("Virtual PCD", f"/dev/null:0x{port:04X}", library)


def free_port() -> int:
    """A TCP port that is free now, and the next one too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


class Vicc:
    """Debian's ISO 7816 card, in the reader as long as the `with` block lasts."""

    def __init__(self, port: int) -> None:
        self._child = subprocess.Popen(
            [
                *(sys.executable, "/usr/bin/vicc", "--type", "iso7816"),
                *("--hostname", "127.0.0.1", "--port", str(port)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": _VICC_MODULES},
        )

    def __enter__(self) -> Vicc:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.kill()
        self._child.wait()


class PinCard:
    """A card with one PIN of three tries; what it was asked is in `commands`.

    vpcd's protocol, both ways: a length of two bytes, big-endian, then that much. One byte is
    a control: 0 power off, 1 power on, 2 reset, 4 asks for the ATR. More is an APDU.
    """

    ATR = bytes.fromhex("3B00")
    PIN = b"123456"

    def __init__(self, port: int) -> None:
        self.commands: list[bytes] = []
        self.tries = 3
        self.verified = False
        self._link = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._link.settimeout(None)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> PinCard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._link.close()

    def _serve(self) -> None:
        with contextlib.suppress(ConnectionError):
            self._answer_all()

    def _answer_all(self) -> None:
        stream = self._link.makefile("rb")
        while len(header := stream.read(2)) == 2:
            message = stream.read(int.from_bytes(header, "big"))
            if len(message) > 1:
                self.commands.append(message)
                answer = self._answer(message)
            elif message == b"\x04":
                answer = self.ATR
            else:
                self.verified = False
                continue
            self._link.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, command: bytes) -> bytes:
        if command[1] != 0x20:
            return (
                status.SUCCESS
                if self.verified or command[1] == 0xA4
                else status.SECURITY_STATUS_NOT_SATISFIED
            )
        if self.tries == 0:
            return status.AUTHENTICATION_BLOCKED
        if len(command) > 5:
            self.verified = command[5:] == self.PIN
            self.tries = 3 if self.verified else self.tries - 1
        if self.verified:
            return status.SUCCESS
        return status.tries_left(self.tries) if self.tries else status.AUTHENTICATION_BLOCKED
