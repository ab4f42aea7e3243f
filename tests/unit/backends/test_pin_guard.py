# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guard over a real card's PIN: what it asks, what it passes on, and what it keeps back."""

from __future__ import annotations

import pytest

from vccid.backends.pin_guard import PinGuard

OK, BLOCKED = b"\x90\x00", b"\x69\x83"
PIN = "06 363534333231"
ASK = "00 20 00 80"


class Card:
    """A card with three tries that takes no PIN for the right one.

    Attributes:
        seen: the commands that reached it.
        tries: what is left.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.tries = 3

    def __call__(self, command: bytes) -> bytes:
        self.seen.append(command.hex(" ").upper())
        cla, ins = command[0], command[1] & 0xFE
        if ins not in (0x20, 0x24, 0x26, 0x28, 0x2C):
            return OK
        if len(command) > 5 and cla & 0x10:
            return OK  # a part
        if len(command) > 5:
            self.tries = max(0, self.tries - 1)
        answer = bytes((0x63, 0xC0 | self.tries)) if self.tries else BLOCKED
        if cla & 0x0C and len(command) > 5:  # protected: ISO/IEC 7816-4, 10.3.4
            return bytes.fromhex("99 02") + answer + bytes.fromhex("8E 08") + bytes(8) + OK
        return answer


@pytest.fixture
def card() -> Card:
    return Card()


@pytest.fixture
def guard() -> PinGuard:
    return PinGuard("reader", 2)


def send(guard: PinGuard, card: Card, command: str) -> str:
    return guard.exchange(bytes.fromhex(command), card).hex(" ").upper()


@pytest.mark.parametrize("ins", ["20", "21", "24", "25", "26", "27", "28", "29"])
def test_whatever_costs_a_try(guard: PinGuard, card: Card, ins: str) -> None:
    """VERIFY, CHANGE REFERENCE DATA, DISABLE and ENABLE VERIFICATION REQUIREMENT."""
    command = f"00 {ins} 00 80 {PIN}"
    assert send(guard, card, command) == "63 C2"
    assert send(guard, card, command) == "63 C1"
    assert send(guard, card, command) == "69 83", "the last one is kept"
    assert card.tries == 1
    assert card.seen.count(ASK) == 3


def test_unblocking_spends_the_puks_tries(guard: PinGuard, card: Card) -> None:
    command = "00 2C 00 80 0C" + "36" * 12
    assert [send(guard, card, command) for _ in range(3)] == ["63 C2", "63 C1", "69 83"]
    assert ASK not in card.seen


def test_a_chain_is_not_broken(guard: PinGuard, card: Card) -> None:
    parts = ["10 20 00 80 03 36 35 34", "00 20 00 80 03 33 32 31"]
    assert [send(guard, card, part) for part in parts] == ["90 00", "63 C2"]
    assert card.seen == [ASK, *parts], "asked before it, and not within"
    card.seen.clear()
    assert [send(guard, card, part) for part in parts] == ["90 00", "63 C1"]
    assert send(guard, card, parts[0]) == "69 83"
    assert send(guard, card, parts[1]) == "69 83", "a last part alone is a whole command"
    assert card.tries == 1


def test_a_chain_that_another_command_ended(guard: PinGuard, card: Card) -> None:
    card.tries = 2
    assert send(guard, card, "10 20 00 80 03 36 35 34") == "90 00"
    card.tries = 1
    assert send(guard, card, "00 CB 3F FF 00") == "90 00"
    assert send(guard, card, "00 20 00 80 03 33 32 31") == "69 83"


@pytest.mark.parametrize("begin", ["00 87 27 04 02 7C 00", "80 50 00 00 08" + "00" * 8])
def test_a_secure_channel_is_not_broken(guard: PinGuard, card: Card, begin: str) -> None:
    """The card is asked before it, and its protected answers tell the rest."""
    assert send(guard, card, begin) == "90 00"
    assert len(card.seen) == 3
    assert card.seen[:2] == [ASK, "00 20 00 00"]
    card.seen.clear()
    command = f"0C 20 00 80 {PIN}"
    assert send(guard, card, command).startswith("99 02 63 C2")
    assert send(guard, card, command).startswith("99 02 63 C1")
    assert send(guard, card, command) == "69 83"
    assert ASK not in card.seen
    assert card.tries == 1


def test_what_cannot_be_asked_is_kept_back(guard: PinGuard, card: Card) -> None:
    """A channel whose beginning was not seen, and a PIN nobody asked for before it."""
    assert send(guard, card, "0C CB 3F FF 00") == "90 00"
    assert send(guard, card, f"0C 20 00 80 {PIN}") == "69 83"
    assert card.tries == 3


def test_what_a_host_asked_is_known(guard: PinGuard, card: Card) -> None:
    assert send(guard, card, ASK) == "63 C3"
    assert send(guard, card, "0C CB 3F FF 00") == "90 00"
    assert send(guard, card, f"0C 20 00 80 {PIN}").startswith("99 02 63 C2")


def test_what_is_known_outlasts_a_reset(guard: PinGuard, card: Card) -> None:
    """Or each new session could spend one try unseen."""
    for _ in range(2):
        send(guard, card, f"00 20 00 80 {PIN}")
    guard.power_on()
    send(guard, card, "0C CB 3F FF 00")
    assert send(guard, card, f"0C 20 00 80 {PIN}") == "69 83"


def test_nothing_is_kept_where_nothing_is_to_be(card: Card) -> None:
    guard = PinGuard("reader", 0)
    for command in (f"00 20 00 80 {PIN}", f"0C 20 00 80 {PIN}", "00 C2 00 00 01 00"):
        send(guard, card, command)
    assert len(card.seen) == 3
