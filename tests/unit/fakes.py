# SPDX-License-Identifier: LGPL-2.1-or-later
"""The smallest Card there is, for rooms that only carry APDUs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from vccid.card.card import Card, CardInfo, Session
from vccid.errors import CardRemoved

#: libcacard's, T=0.
ATR = bytes.fromhex("3B7A18000073667465206364313434")

#: Answers one command; an awaitable where the fake is to wait.
Answer = Callable[[bytes], bytes | Awaitable[bytes]]


def echo(command: bytes) -> bytes:
    """The command itself and 9000."""
    return command + b"\x90\x00"


class FakeSession(Session):
    """Answers with a function; a command that waits ends with the session."""

    def __init__(self, atr: bytes, answer: Answer) -> None:
        self._atr = atr
        self._answer = answer
        self.closed = asyncio.Event()

    @property
    def atr(self) -> bytes:
        return self._atr

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        if self.closed.is_set():
            raise CardRemoved("gone")
        answer = self._answer(command)
        return answer if isinstance(answer, bytes) else self._wait(answer)

    def close(self) -> None:
        self.closed.set()

    async def _wait(self, answer: Awaitable[bytes]) -> bytes:
        running = asyncio.ensure_future(answer)
        over = asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait((running, over), return_when=asyncio.FIRST_COMPLETED)
            if self.closed.is_set():
                raise CardRemoved("gone")
            return running.result()
        finally:
            running.cancel()
            over.cancel()


class FakeCard(Card):
    """A card whose every session answers with one function."""

    def __init__(self, answer: Answer = echo, atr: bytes = ATR, serial: str = "00") -> None:
        self._answer = answer
        self._atr = atr
        self._serial = serial
        self.sessions: list[FakeSession] = []

    @property
    def atr(self) -> bytes:
        return self._atr

    def info(self) -> CardInfo:
        return CardInfo(kind="fake", serial=self._serial, label="Fake")

    async def connect(self) -> Session:
        self.sessions.append(FakeSession(self._atr, self._answer))
        return self.sessions[-1]
