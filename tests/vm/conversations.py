# SPDX-License-Identifier: LGPL-2.1-or-later
"""Conversations held within a guest, by its pcscd."""

from __future__ import annotations

import json
from collections.abc import Callable
from shlex import quote

from tests.conversations.cac import CONVERSATIONS
from tests.conversations.doors import Door, note
from tests.vm.guest import Guest

Record = Callable[[str, object], None]


def converse(
    guest: Guest, door: Door, pin: str, record: Record, *hands: str, reader: str = ""
) -> None:
    """Hold all that a door is open to with the card in a reader.

    Args:
        hands: what a shell in the guest does to take the card out, and to put it back.
        reader: a part of the reader's name.
    """
    words = ("python3", "-m", "tests.conversations.pcsc", reader, pin, door.name, *hands)
    said = guest.run(f"cd /src && {' '.join(map(quote, words))}", timeout=110).text
    note(door, CONVERSATIONS, json.loads(said), record)
