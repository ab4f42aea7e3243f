# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every conversation with our CAC, in this process; and that a conversation can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cards import PIN, Driver, MemoryToken, card_with_token, three_credentials
from tests.conversations.cac import CONVERSATIONS
from tests.conversations.doors import HELD, IN_PROCESS
from tests.conversations.steps import Conversation


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(card_with_token(three_credentials(), tmp_path, MemoryToken()))
    yield driver
    driver.close()


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda held: str(held.name))
def test_conversation(
    driver: Driver, conversation: Conversation, record_property: Callable[[str, object], None]
) -> None:
    conversation.hold(driver)
    record_property(HELD, (IN_PROCESS.name, conversation.name))


class Liar:
    """A card one of whose answers has another last byte."""

    def __init__(self, card: Driver, wrong: int) -> None:
        self.pin = PIN
        self._card = card
        self._left = wrong

    def power_on(self) -> bytes:
        return self._card.power_on()

    def remove(self) -> None:
        self._card.remove()

    def insert(self) -> None:
        self._card.insert()

    def transmit(self, command: bytes) -> bytes:
        self._left -= 1
        answer = self._card.transmit(command)
        return answer if self._left else answer[:-1] + bytes((answer[-1] ^ 0x01,))


@pytest.mark.parametrize("name", ["cac_pki", "login", "invalid_acr", "sign", "opensc_t1"])
def test_a_wrong_answer_is_noticed(driver: Driver, name: str) -> None:
    conversation = next(held for held in CONVERSATIONS if held.name == name)
    with pytest.raises(AssertionError, match=f"^{name}, step "):
        conversation.hold(Liar(driver, 1))
