# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a conversation is made of: each step says what is done, and what has to come of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from vccid.iso7816.status import SUCCESS
from vccid.trace.lines import exchange_text

INS_GET_RESPONSE = 0xC0
MORE, EXACT_LENGTH = 0x61, 0x6C


class Card(Protocol):
    """What a conversation is held with: the host's end of a door.

    Attributes:
        pin: the card's.
    """

    pin: bytes

    def power_on(self) -> bytes:
        """A reset; returns the ATR."""

    def transmit(self, command: bytes) -> bytes:
        """A command APDU and its response APDU."""

    def remove(self) -> None:
        """Take it out of its reader; returns once the host has seen that."""

    def insert(self) -> None:
        """Put it back, likewise, and connect to it anew."""


class Need(Enum):
    """What a conversation asks of a door; one that lacks it says why."""

    EXTENDED_LENGTH = "an extended Lc"
    RESET = "a reset that ends the session"
    LIBCACARD_ATR = "the ATR of libcacard"
    LE_WITH_DATA = "a command with data and Le, and 6Cxx where that Le is wrong"
    HANDS = "somebody to take the card out and put it back"
    ANY_LENGTH = "answers of every length, each in one piece"
    PIV = "a PIV card"


class Step(ABC):
    """One step."""

    @abstractmethod
    def take(self, card: Card) -> None:
        """Do it; AssertionError where the card answers otherwise."""


@dataclass(frozen=True)
class Conversation:
    """A conversation, for any card that is as its first line says.

    Attributes:
        name: for the table, and as the test's id.
        about: what it shows.
        needs: what a door must carry.
        steps: what is done.
    """

    name: str
    about: str
    steps: Sequence[Step]
    needs: frozenset[Need] = frozenset()

    def hold(self, card: Card) -> None:
        """From power-on to its end."""
        card.power_on()
        for number, step in enumerate(self.steps, 1):
            try:
                step.take(card)
            except AssertionError as error:
                raise AssertionError(f"{self.name}, step {number}, {step}: {error}") from error


# --- steps ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PowerOn(Step):
    """A reset, and perhaps the ATR that has to come."""

    atr: bytes | None = None

    def take(self, card: Card) -> None:
        atr = card.power_on()
        assert self.atr in (None, atr), atr.hex(" ")


@dataclass(frozen=True)
class Exchange(Step):
    """The card is taken out, and put back."""

    def take(self, card: Card) -> None:
        card.remove()
        card.insert()


@dataclass(frozen=True)
class Send(Step):
    """A command whose answer does not matter: what a program asks of every card."""

    command: bytes

    def take(self, card: Card) -> None:
        assert len(card.transmit(self.command)) >= 2


@dataclass(frozen=True)
class Ask(Step):
    """A command whose whole answer is one of these."""

    command: bytes
    answers: tuple[bytes, ...]

    def take(self, card: Card) -> None:
        answer = card.transmit(self.command)
        assert answer in self.answers, exchange_text(self.command, answer, self.answers[0])


@dataclass(frozen=True)
class Succeed(Step):
    """A command that is answered with 9000, whatever its data."""

    command: bytes

    def take(self, card: Card) -> None:
        successful(card.transmit(self.command))


@dataclass(frozen=True)
class AskFor(Step):
    """A command whose answer has so many bytes of data, and 9000; `check` looks at the data."""

    command: bytes
    size: int
    check: Callable[[bytes], object] | None = None

    def take(self, card: Card) -> None:
        data = successful(card.transmit(self.command))
        assert len(data) == self.size, data.hex(" ")
        assert self.check is None or self.check(data), data.hex(" ")


@dataclass(frozen=True)
class AskWhole(Step):
    """A command whose data, all that waits with it, `check` looks at."""

    command: bytes
    check: Callable[[bytes], object]

    def take(self, card: Card) -> None:
        data = whole(card, self.command)
        assert self.check(data), data.hex(" ")


@dataclass(frozen=True)
class AskExact(Step):
    """A command that is refused with the right Le (6Cxx), then sent with it."""

    header: bytes
    check: Callable[[bytes], object] = len

    def take(self, card: Card) -> None:
        refused = card.transmit(self.header + b"\x00")
        assert len(refused) == 2 and refused[0] == EXACT_LENGTH and refused[1], refused.hex(" ")
        data = successful(card.transmit(self.header + refused[1:]))
        assert len(data) == refused[1]
        assert self.check(data), data.hex(" ")


@dataclass(frozen=True)
class Verify(Step):
    """VERIFY of the card's own PIN, filled up with FFh."""

    header: bytes = b"\x00\x20\x00\x00\x08"

    def take(self, card: Card) -> None:
        answer = card.transmit(self.header + card.pin.ljust(8, b"\xff"))
        assert answer == SUCCESS, answer.hex(" ")


# --- what steps are made of ----------------------------------------------------------------------


def successful(answer: bytes) -> bytes:
    """The data of an answer that ends with 9000."""
    assert answer[-2:] == SUCCESS, answer.hex(" ")
    return answer[:-2]


def whole(card: Card, command: bytes) -> bytes:
    """The data of a command's answer, with all that waits for GET RESPONSE; then 9000."""
    answer = card.transmit(command)
    data = answer[:-2]
    while answer[-2] == MORE:
        answer = card.transmit(bytes((0x00, INS_GET_RESPONSE, 0, 0, answer[-1])))
        data += answer[:-2]
    return data + successful(answer[-2:])


class T0Application:
    """The host of a card behind T=0 TPDUs, as ISO/IEC 7816-3:2006, 12.2 has it.

    A command with data has no Le there: its answer is fetched with GET RESPONSE.
    """

    def __init__(self, card: Card) -> None:
        self._card = card
        self.pin = card.pin

    def power_on(self) -> bytes:
        return self._card.power_on()

    def remove(self) -> None:
        self._card.remove()

    def insert(self) -> None:
        self._card.insert()

    def transmit(self, command: bytes) -> bytes:
        if len(command) < 6 or len(command) == 5 + command[4]:
            return self._card.transmit(command)
        assert len(command) == 6 + command[4], "T=0 has no extended length"
        wanted = command[-1] or 256
        answer = self._card.transmit(command[:-1])
        data = answer[:-2]
        while answer[-2] == MORE and len(data) < wanted:
            count = min(answer[-1] or 256, wanted - len(data))
            answer = self._card.transmit(bytes((0x00, INS_GET_RESPONSE, 0, 0, count & 0xFF)))
            data += answer[:-2]
        return data + answer[-2:]
