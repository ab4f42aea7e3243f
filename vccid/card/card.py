# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two nouns every room above knows: a Card, and a Session with it.

A Card is identity that lasts: ATR, applets, keys, PIN and its retry counter.
A Session is one host's view of it: what is selected, whether the PIN was verified,
a chain under way. It begins at power-on and ends at power-off, reset or removal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from vccid.errors import VccidError

T = TypeVar("T")

#: Runs a blocking function off the event loop; the card itself starts no thread.
Offload = Callable[[Callable[[], T]], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A key reference of a card that has such, and what is there.

    Attributes:
        reference: two hexadecimal digits.
        name: what the standard calls it.
        algorithm: of the key, "" where there is none.
        source: where the key came from.
        pin: when it wants the PIN: "never", "once" or "always".
        certificate: index of its certificate in `CardInfo.certificates`, or None.
    """

    reference: str
    name: str
    algorithm: str = ""
    source: str = ""
    pin: str = ""
    certificate: int | None = None


@dataclass(frozen=True, slots=True)
class CardInfo:
    """What `vccidctl card info` and the file view show of a card.

    Attributes:
        kind: "cac", "piv", or what a backend calls a card that is not ours.
        serial: hexadecimal, unique to the card's certificates; "" where unknown.
        label: the first certificate's common name, or the real card's reader.
        certificates: DER, in the order of the card's applets.
        names: what the user called each certificate, in the same order.
        tries_left: PIN tries left, None where the card does not tell.
        pin_kind: "card", "token", or "unknown" for a card that is not ours.
        puk_tries_left: PUK tries left, None where the card has no PUK.
        slots: those with a key or a certificate.
        pairing_code: that a host needs for the virtual contact interface, "" where there is none.
    """

    kind: str
    serial: str
    label: str
    certificates: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()
    tries_left: int | None = None
    pin_kind: str = "unknown"
    puk_tries_left: int | None = None
    slots: tuple[SlotInfo, ...] = ()
    pairing_code: str = field(default="", repr=False)


class Session(ABC):
    """One host's view of a card, from power-on to power-off, reset or removal."""

    @property
    @abstractmethod
    def atr(self) -> bytes:
        """Answer to reset, 2 to 33 bytes (ISO/IEC 7816-3, 8.2)."""

    @abstractmethod
    def execute(self, command: bytes) -> bytes | Awaitable[bytes]:
        """Run one command APDU: an answer at once, or an awaitable where it must wait.

        Only a private-key operation, a PIN check or a card that is not ours waits.
        One command at a time: a frontend asks again only after it has the answer.

        Args:
            command: ISO/IEC 7816-4, 5.1, short or extended. Any bytes are taken;
                what cannot be parsed is answered with a status word.

        Returns:
            The response APDU, 2 to 65,538 bytes: data, then SW1 SW2.

        Raises:
            CardRemoved: the session is over (also out of the awaitable).
        """

    async def transmit(self, command: bytes) -> bytes:
        """`execute`, always awaited."""
        answer = self.execute(command)
        return answer if isinstance(answer, bytes) else await answer

    @abstractmethod
    def close(self) -> None:
        """End the session; a command still waiting raises CardRemoved. May be repeated."""


class Card(ABC):
    """A card that can be in a reader.

    Attributes:
        watch: has what it is given called, in any thread and once at most, when what the card is
            made of is gone while it is in; of most cards that never happens.
    """

    watch: Callable[[Callable[[VccidError], None]], None] = staticmethod(lambda told: None)

    @property
    @abstractmethod
    def atr(self) -> bytes:
        """Answer to reset, 2 to 33 bytes."""

    @abstractmethod
    def info(self) -> CardInfo:
        """What there is to show."""

    @abstractmethod
    async def connect(self) -> Session:
        """Power on: a new session, nothing selected, nothing verified.

        Raises:
            CardBusy: the card has one security state and another host owns it.
            CardRemoved: it is no longer there.
        """

    def close(self) -> None:  # noqa: B027 - most cards hold nothing
        """Let go of what the card holds, after it has left its reader."""
