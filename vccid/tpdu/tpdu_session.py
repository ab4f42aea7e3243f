# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session as it is seen at a reader that hands on TPDUs: after reset PPS, then T=0 or T=1."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from vccid.card.card import Session
from vccid.errors import CardMute
from vccid.iso7816.atr import Atr
from vccid.iso7816.pps import Pps
from vccid.iso7816.t1_blocks import FIRST_SIZE, LONGEST_INFORMATION, Edc
from vccid.tpdu.protocol_states import PROTOCOL, Event, State
from vccid.tpdu.t0 import T0Tpdu
from vccid.tpdu.t1_link import Execute, GoOn, Link

#: Waits as long as the card works before it asks for more time.
Patience = Callable[[], Awaitable[None]]

#: Transmission protocols carried here; the rest are reserved or in no standard (ISO/IEC
#: 7816-3:2006, 8.2.3).
_CARRIERS: Final = (0, 1)

_CARRIED: Final = State.CARRIED  # looked up once, not for every TPDU


class TpduSession(Session):
    """Any session, for a host that sends T=0 commands or T=1 blocks and gets the same back."""

    def __init__(self, session: Session, patience: Patience) -> None:
        self._session = session
        self._patience = patience
        self._state = PROTOCOL.initial
        self._protocol = 0  # of use in SELECTED
        self._carrier = session  # in CARRIED what speaks the protocol

    @property
    def atr(self) -> bytes:
        return self._session.atr

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        """Take a TPDU, or PPS as long as none came.

        Raises:
            CardMute: the card has no such protocol.
        """
        if self._state is not _CARRIED:
            atr = Atr.parse(self.atr)
            request = Pps.parse(command)
            if request is not None and atr.is_negotiable:
                return self._select(request, atr)
            self._carrier = self._carry(atr)
            self._move(Event.TPDU)
        return self._carrier.execute(command)

    def close(self) -> None:
        self._carrier.close()

    def _select(self, request: Pps, atr: Atr) -> bytes:
        if request.protocol not in atr.protocols or request.protocol not in _CARRIERS:
            raise CardMute(f"the card has no T={request.protocol}")
        self._protocol = request.protocol
        self._move(Event.PPS)
        return request.serialize()

    def _carry(self, atr: Atr) -> Session:
        protocol = self._protocol if self._state is State.SELECTED else atr.first_protocol
        if protocol == 0:
            return T0Tpdu(self._session)
        if protocol != 1:
            raise CardMute(f"T={protocol} is carried by nobody")
        own = atr.specific(1)
        ifsc = own.get("A", FIRST_SIZE)
        edc = Edc(own.get("C", 0) & 1)
        return T1Session(self._session, Link(min(ifsc, LONGEST_INFORMATION), edc), self._patience)

    def _move(self, event: Event) -> None:
        self._state = PROTOCOL.after(self._state, event)


class T1Session(Session):
    """A session whose commands and answers are blocks of T=1."""

    def __init__(self, session: Session, link: Link, patience: Patience) -> None:
        self._session = session
        self._link = link
        self._patience = patience
        self._working: asyncio.Future[bytes] | None = None

    @property
    def atr(self) -> bytes:
        return self._session.atr

    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        """Take a block; the answer is one too."""
        step = self._link.receive(command)
        working = self._working
        if isinstance(step, Execute):
            answer = self._session.execute(step.command)
            if isinstance(answer, bytes):
                return self._link.respond(answer)
            self._working = working = asyncio.ensure_future(answer)
            working.add_done_callback(_look_at)
            return self._wait(working)
        if isinstance(step, GoOn):
            assert working is not None, "only a command that runs is given time"
            return self._wait(working)
        return step if working is None or self._link.running else self._give_up(working, step)

    def close(self) -> None:
        self._session.close()
        if self._working is not None:
            self._working.cancel()

    async def _wait(self, working: asyncio.Future[bytes]) -> bytes:
        """The first block of the answer, or S(WTX request) where patience ends before."""
        patience = asyncio.ensure_future(self._patience())
        try:
            await asyncio.wait((working, patience), return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
        if not working.done():
            return self._link.extend()
        self._working = None
        return self._link.respond(working.result())

    async def _give_up(self, working: asyncio.Future[bytes], block: bytes) -> bytes:
        """The host wants the answer no more. The card takes no other command before its end."""
        self._working = None
        await asyncio.wait((working,))
        return block


def _look_at(task: asyncio.Future[bytes]) -> None:
    """So that asyncio does not complain of a failure nobody asked for."""
    if not task.cancelled():
        task.exception()
