# SPDX-License-Identifier: LGPL-2.1-or-later
"""A PC/SC application that does one thing over and over, in a process of its own.

    with Churn(pcscd.env, READER, "unpower") as churn:
        ...
    assert churn.results["SCardConnect", SUCCESS] > 0

The child is this same file, run as a program; it ends with its standard input.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType

from smartcard import scard

from tests.peers.plain_card import COUNT

SUCCESS = scard.SCARD_S_SUCCESS

_BOTH = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
_SHARED = scard.SCARD_SHARE_SHARED


class Churn:
    """One application at work, from the block's begin to its end.

    Attributes:
        results: after the end, how often each function returned each code (unsigned).
    """

    def __init__(self, env: Mapping[str, str], reader: str, work: str) -> None:
        """
        Args:
            env: names the pcscd by PCSCLITE_CSOCK_NAME.
            work: "unpower" or "reset" (connect, disconnect so), "both" (in turns), or "send" (an
                APDU through a handle that is kept, and reconnected when it is told to).
        """
        self.results: Counter[tuple[str, int]] = Counter()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.peers.pcsc_churn", reader, work],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(env),
        )

    def __enter__(self) -> Churn:
        assert self._child.stdout is not None and self._child.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            told, _ = self._child.communicate(timeout=30)
        finally:
            self._child.kill()
        for function, code, count in json.loads(told):
            self.results[function, code] = count


class _Work:
    """The child's side."""

    def __init__(self, reader: str) -> None:
        self.results: Counter[tuple[str, int]] = Counter()
        self._reader = reader
        self._context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)[1]
        self._handle: tuple[int, int] | None = None

    def connect_and_disconnect(self, disposition: int) -> None:
        """A program that leaves no trace of itself on the card."""
        handle = self._connect()
        if handle is not None:
            self._note("SCardDisconnect", scard.SCardDisconnect(handle[0], disposition))

    def send(self) -> None:
        """A program that keeps its handle."""
        if self._handle is None:
            self._handle = self._connect()
            return
        code = scard.SCardTransmit(self._handle[0], self._handle[1], list(COUNT))[0]
        self._note("SCardTransmit", code)
        if code != SUCCESS:
            code, protocol = scard.SCardReconnect(
                self._handle[0], _SHARED, _BOTH, scard.SCARD_RESET_CARD
            )
            self._note("SCardReconnect", code)
            if code == SUCCESS:
                self._handle = self._handle[0], protocol

    def _connect(self) -> tuple[int, int] | None:
        code, handle, protocol = scard.SCardConnect(self._context, self._reader, _SHARED, _BOTH)
        self._note("SCardConnect", code)
        return (handle, protocol) if code == SUCCESS else None

    def _note(self, function: str, code: int) -> None:
        self.results[function, code & 0xFFFFFFFF] += 1


def _main(reader: str, kind: str) -> None:
    work = _Work(reader)
    dispositions = {
        "unpower": (scard.SCARD_UNPOWER_CARD,),
        "reset": (scard.SCARD_RESET_CARD,),
        "both": (scard.SCARD_UNPOWER_CARD, scard.SCARD_RESET_CARD),
    }
    steps: list[Callable[[], None]] = [
        lambda disposition=disposition: work.connect_and_disconnect(disposition)  # type: ignore[misc]
        for disposition in dispositions.get(kind, ())
    ] or [work.send]
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        for step in steps:
            step()
    print(json.dumps([[*what, count] for what, count in work.results.items()]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
