# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader: one slot that holds at most one card, and the hosts that look at it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vccid.card.card import Card, Session
from vccid.errors import CardRemoved, ReaderError
from vccid.process.cleanup import take_all


class Host(ABC):
    """One attached host, kept by the frontend that serves it.

    Attributes:
        kind: the frontend's name: "ifd", "vhci", "usbip", "vsc", "vpicc", "usbredir",
            "cuse", "pty", "tty".
        peer: who is at the other end, for people: "pcscd (pid 812)".
        seen: the last generation of the reader this host is known to have noticed.
        commands: APDUs it sent to cards here since it is attached.
    """

    kind: str
    peer: str
    seen: int
    commands: int = 0

    @abstractmethod
    def card_changed(self) -> None:
        """The reader's card came or went; look at it. Called on the loop, must not block."""


@dataclass(frozen=True, slots=True)
class Event:
    """What `vccidctl monitor` shows.

    Attributes:
        kind: what happened.
        reader: the reader's name.
        detail: who or what, for people: a card's serial, a host's peer.
    """

    kind: Literal[
        "card-inserted",
        "card-removed",
        "host-attached",
        "host-detached",
        "host-saw",
        "reader-added",
        "reader-removed",
    ]
    reader: str
    detail: str = ""


class Reader:
    """A named slot.

    Each insert and each remove is a new generation, so that a host can say which it
    has seen, and an exchange of cards between two looks is still noticed.

    Attributes:
        label: what programs see it by, as far as it is ours to say.
    """

    def __init__(self, name: str, publish: Callable[[Event], None] = lambda event: None) -> None:
        self.name = name
        self.label = f"vccid {name}"
        self.generation = 0
        self.card: Card | None = None
        self.hosts: set[Host] = set()
        self._sessions: set[Session] = set()
        self._publish = publish
        self._woken = asyncio.Event()

    def insert(self, card: Card) -> int:
        """Put a card in and tell every host; returns the new generation.

        Raises:
            ReaderError: there is a card in it.
        """
        if self.card is not None:
            raise ReaderError(
                f"reader {self.name} already holds a card",
                f"remove it first: vccidctl remove {self.name}",
            )
        self.card = card
        return self._changed(Event("card-inserted", self.name, _known_as(card)))

    def remove(self) -> int:
        """Take the card out, end every session with it and tell every host.

        Raises:
            ReaderError: there is no card in it.
        """
        if self.card is None:
            raise ReaderError(f"reader {self.name} holds no card")
        card, self.card = self.card, None
        sessions, self._sessions = self._sessions, set()
        take_all(*(session.close for session in sessions))
        self._wake_waiters()
        generation = self._changed(Event("card-removed", self.name, _known_as(card)))
        take_all(card.close)
        return generation

    async def power_on(self) -> Session:
        """A new session with the card that is in.

        Raises:
            CardRemoved: there is none, or it left meanwhile.
            CardBusy: another host owns it.
        """
        card = self.card
        if card is None:
            raise CardRemoved(f"reader {self.name} holds no card")
        session = await card.connect()
        if self.card is not card:
            session.close()
            raise CardRemoved(f"the card left reader {self.name}")
        self._sessions.add(session)
        return session

    def power_off(self, session: Session) -> None:
        """End a session. May be repeated."""
        self._sessions.discard(session)
        session.close()
        self._wake_waiters()

    async def wait_over(self, session: Session) -> None:
        """Wait until a session is over: powered off, or its card removed."""
        while session in self._sessions:
            await self._woken.wait()

    def attach(self, host: Host) -> None:
        """A host begins to look at this reader."""
        self.hosts.add(host)
        self._publish(Event("host-attached", self.name, f"{host.kind} {host.peer}"))

    def detach(self, host: Host) -> None:
        """A host is gone. May be repeated."""
        if host in self.hosts:
            self.hosts.discard(host)
            self._publish(Event("host-detached", self.name, f"{host.kind} {host.peer}"))
            self._wake_waiters()

    def acknowledge(self, host: Host, generation: int) -> None:
        """A host is known to have noticed everything up to `generation`."""
        if generation > host.seen:
            host.seen = generation
            self._publish(Event("host-saw", self.name, f"{host.kind} {host.peer}"))
            self._wake_waiters()

    async def wait_seen(self, generation: int, timeout: float | None) -> bool:
        """Wait until every attached host has seen `generation`; False after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while any(host.seen < generation for host in self.hosts):
                    await self._woken.wait()
        except TimeoutError:
            return False
        return True

    def _changed(self, event: Event) -> int:
        self.generation += 1
        self._publish(event)
        take_all(*(host.card_changed for host in tuple(self.hosts)))
        return self.generation

    def _wake_waiters(self) -> None:
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()


def _known_as(card: Card) -> str:
    info = card.info()
    return info.serial or info.label
