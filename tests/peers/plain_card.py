# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card with nothing on it but what a frontend's test needs: answers at once, late, and long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from vccid.card.card import Card, CardInfo, Session
from vccid.errors import CardRemoved
from vccid.iso7816 import status

#: libcacard's, T=0: 15 bytes.
ATR_T0 = bytes.fromhex("3B 7A 18 00 00 73 66 74 65 2D 63 64 31 34 34")

#: Offers T=1 alone.
ATR_T1 = bytes.fromhex("3B F7 13 00 00 81 31 FE 45 80 31 C1 73 C0 21 C0 CD")

SELECT = bytes.fromhex("00 A4 04 00 07 A0 00 00 00 79 03 00 00")

#: Answered when the test calls PlainCard.finish.
WAIT = bytes.fromhex("80 0F 00 00")

#: How many SELECT this session has had, one byte: tells a new session from an old one.
COUNT = bytes.fromhex("80 0C 00 00 01")


def long_answer(size: int) -> bytes:
    """The command that is answered with `size` bytes (0 to 65,536) and 90 00."""
    return bytes.fromhex("80 B0 00 00") + size.to_bytes(3, "big")


def pattern(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


class PlainCard(Card):
    """Holds what its sessions share."""

    def __init__(self, atr: bytes = ATR_T0, serial: str = "01") -> None:
        self._atr = atr
        self._serial = serial
        self.sessions: set[PlainSession] = set()

    @property
    def atr(self) -> bytes:
        return self._atr

    def info(self) -> CardInfo:
        return CardInfo(kind="plain", serial=self._serial, label="plain")

    async def connect(self) -> Session:
        session = PlainSession(self)
        self.sessions.add(session)
        return session

    def finish(self) -> None:
        """Answer every WAIT that waits with 90 00."""
        for session in self.sessions:
            session.finish()


class PlainSession(Session):
    def __init__(self, card: PlainCard) -> None:
        self._card = card
        self._selected = 0
        self._waiting: asyncio.Future[bytes] | None = None
        self._closed = False

    @property
    def atr(self) -> bytes:
        return self._card.atr

    @property
    def waiting(self) -> bool:
        return self._waiting is not None

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        if self._closed:
            raise CardRemoved("the session is over")
        if command[:2] == SELECT[:2]:
            self._selected += 1
            return status.SUCCESS
        if command == COUNT:
            return bytes([self._selected]) + status.SUCCESS
        if command == WAIT:
            self._waiting = asyncio.get_running_loop().create_future()
            return self._waiting
        if command[:2] == long_answer(0)[:2]:
            return pattern(int.from_bytes(command[4:7], "big")) + status.SUCCESS
        return status.INSTRUCTION_NOT_SUPPORTED

    def finish(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(status.SUCCESS)
            self._waiting = None

    def close(self) -> None:
        self._closed = True
        self._card.sessions.discard(self)
        if self._waiting is not None:
            self._waiting.set_exception(CardRemoved("the card was removed"))
            self._waiting = None
