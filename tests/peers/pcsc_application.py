# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PC/SC application whose every call the test makes, in a process of its own.

libpcsclite reads PCSCLITE_CSOCK_NAME once, so each pcscd needs another process; and a test can
go on while a call blocks. The child is this same file, run as a program: JSON lines.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from smartcard import scard


class Application:
    """One context with a pcscd, held by a child."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Args: env: names the pcscd by PCSCLITE_CSOCK_NAME."""
        self._child = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(env),
        )
        self.context = self.must("SCardEstablishContext", scard.SCARD_SCOPE_SYSTEM)[0]

    def begin(self, function: str, *arguments: object) -> None:
        """Call a function of the scard module; `finish` has what it returns."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps([function, *arguments]) + "\n")
        self._child.stdin.flush()

    def finish(self) -> tuple[int, list[Any]]:
        """The return code, and whatever else the function begun returned."""
        assert self._child.stdout is not None
        code, *rest = json.loads(self._child.stdout.readline())
        return code, rest

    def call(self, function: str, *arguments: object) -> tuple[int, list[Any]]:
        self.begin(function, *arguments)
        return self.finish()

    def must(self, function: str, *arguments: object) -> list[Any]:
        """`call`, which has to succeed."""
        code, rest = self.call(function, *arguments)
        assert code == scard.SCARD_S_SUCCESS, f"{function}: {scard.SCardGetErrorMessage(code)}"
        return rest

    def connect(self, reader: str, mode: int = scard.SCARD_SHARE_SHARED) -> tuple[int, int]:
        """A card handle and its protocol."""
        both = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        handle, protocol = self.must("SCardConnect", self.context, reader, mode, both)
        return handle, protocol

    def transmit(self, card: tuple[int, int], command: bytes) -> bytes:
        """Exchange an APDU, which has to succeed."""
        return bytes(self.must("SCardTransmit", *card, list(command))[0])

    def state(self, reader: str) -> tuple[int, bytes]:
        """The reader's state now, without its event counter, and the card's ATR."""
        known = [[reader, scard.SCARD_STATE_UNAWARE]]
        ((_, state, atr),) = self.must("SCardGetStatusChange", self.context, 0, known)[0]
        return state & 0xFFFF, bytes(atr)

    def wait_for(self, reader: str, wanted: int, timeout_ms: int = 15000) -> None:
        """Wait as applications do until the reader's state has all bits of `wanted`."""
        state = scard.SCARD_STATE_UNAWARE
        while not state & wanted:
            known = [[reader, state]]
            states = self.must("SCardGetStatusChange", self.context, timeout_ms, known)[0]
            state = states[0][1] & ~scard.SCARD_STATE_CHANGED

    def close(self) -> None:
        """End the child. May be repeated."""
        self._child.kill()
        self._child.communicate()

    def __enter__(self) -> Application:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _main() -> None:
    for line in sys.stdin:
        function, *arguments = json.loads(line)
        if function == "SCardGetStatusChange":
            arguments[2] = [tuple(state) for state in arguments[2]]
        result = getattr(scard, function)(*arguments)
        print(json.dumps(result if isinstance(result, list | tuple) else [result]), flush=True)


if __name__ == "__main__":
    _main()
