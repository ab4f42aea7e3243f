# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every conversation with our PIV card, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conversations.doors import HELD, IN_PROCESS
from tests.conversations.piv import CONVERSATIONS
from tests.conversations.steps import Conversation
from tests.unit.card.piv.host import PIN, Host, conversing_card


class Talker:
    """A PIV card as conversations take one."""

    def __init__(self, host: Host) -> None:
        self.pin = PIN
        self.transmit = host.raw
        self._host = host

    def power_on(self) -> bytes:
        self._host.reset()
        return self._host.card.atr

    def remove(self) -> None:
        raise NotImplementedError("no conversation wants it")

    insert = remove


@pytest.fixture
def talker() -> Iterator[Talker]:
    host = Host(conversing_card())
    yield Talker(host)
    host.close()


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda held: str(held.name))
def test_conversation(
    talker: Talker, conversation: Conversation, record_property: Callable[[str, object], None]
) -> None:
    conversation.hold(talker)
    record_property(HELD, (IN_PROCESS.name, conversation.name))
