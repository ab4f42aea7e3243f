# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PC/SC application in a process of its own, as libpcsclite reads its environment only once.

    with PcscClient(pcscd.env) as application:
        assert application.transmit(SELECT) == bytes.fromhex("6D00")

The child is this same file, run as a program: an APDU in hexadecimal a line, an answer a line;
a control code stands before its data: "42000d48:".
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType

from smartcard import scard


class PcscError(Exception):
    """PC/SC refused.

    Attributes:
        code: an SCARD_ return code, unsigned.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:#010x}")
        self.code = code


class PcscClient:
    """A connection to the card in a pcscd's first reader, shared; ended by leaving the block."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Connect.

        Args:
            env: names the pcscd: PCSCLITE_CSOCK_NAME.

        Raises:
            PcscError: there is no reader, or no card in it.
        """
        self._child = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(env),
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PcscClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child, which disconnects without touching the card. May be repeated."""
        self._child.kill()
        self._child.communicate()

    def begin(self, command: bytes) -> None:
        """Send an APDU; `finish` has its answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(command.hex() + "\n")
        self._child.stdin.flush()

    def begin_control(self, code: int, data: bytes = b"") -> None:
        """Begin SCardControl; `finish` has its answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{code:x}:{data.hex()}\n")
        self._child.stdin.flush()

    def control(self, code: int, data: bytes = b"") -> bytes:
        """SCardControl."""
        self.begin_control(code, data)
        return self.finish()

    def finish(self) -> bytes:
        """The answer to what was begun.

        Raises:
            PcscError: such as SCARD_W_REMOVED_CARD.
        """
        return self._answer()

    def transmit(self, command: bytes) -> bytes:
        """Exchange an APDU."""
        self.begin(command)
        return self.finish()

    def _answer(self) -> bytes:
        assert self._child.stdout is not None
        word, _, value = self._child.stdout.readline().strip().partition(" ")
        if word == "error":
            raise PcscError(int(value, 16))
        assert word == "ok", f"the PC/SC client said {word!r}"
        return bytes.fromhex(value)


def _check(code: int) -> None:
    if code != scard.SCARD_S_SUCCESS:
        raise PcscError(code & 0xFFFFFFFF)


def _connect() -> tuple[int, int]:
    code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
    _check(code)
    code, readers = scard.SCardListReaders(context, [])
    _check(code)
    code, card, protocol = scard.SCardConnect(
        context,
        readers[0],
        scard.SCARD_SHARE_SHARED,
        scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1,
    )
    _check(code)
    return card, protocol


def _transmit(card: int, protocol: int, command: bytes) -> bytes:
    code, answer = scard.SCardTransmit(card, protocol, list(command))
    _check(code)
    return bytes(answer)


def _control(card: int, code: int, data: bytes) -> bytes:
    result, answer = scard.SCardControl(card, code, list(data))
    _check(result)
    return bytes(answer)


def _answer(card: int, protocol: int, line: str) -> bytes:
    code, control, data = line.rpartition(":")
    if control:
        return _control(card, int(code, 16), bytes.fromhex(data))
    return _transmit(card, protocol, bytes.fromhex(data))


def _main() -> None:
    try:
        card, protocol = _connect()
    except PcscError as error:
        print(f"error {error.code:08x}", flush=True)
        return
    print("ok", flush=True)
    for line in sys.stdin:
        try:
            print(f"ok {_answer(card, protocol, line).hex()}", flush=True)
        except PcscError as error:
            print(f"error {error.code:08x}", flush=True)


if __name__ == "__main__":
    _main()
