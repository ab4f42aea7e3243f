# SPDX-License-Identifier: LGPL-2.1-or-later
"""Conversations held within a guest, by its pcscd."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

from tests.conversations import cac, piv
from tests.conversations.doors import Door, note
from tests.conversations.steps import Conversation
from tests.peers.piv import Issued
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
    words = (reader, pin, door.name, *hands)
    _converse(guest, door, cac.CONVERSATIONS, words, record)


def converse_with_piv(
    guest: Guest, door: Door, pin: str, record: Record, *, reader: str = ""
) -> None:
    """The same with a PIV card."""
    words = ("--piv", reader, pin, door.name)
    _converse(guest, door, piv.CONVERSATIONS, words, record)


def _converse(
    guest: Guest,
    door: Door,
    conversations: Sequence[Conversation],
    words: Sequence[str],
    record: Record,
) -> None:
    program = ("python3", "-m", "tests.conversations.pcsc", *words)
    said = guest.run(f"cd /src && {' '.join(map(quote, program))}", timeout=110).text
    note(door, conversations, json.loads(said), record)


def give_piv(guest: Guest, directory: Path) -> str:
    """Put certificates and keys of the PIV card of `conversations` into the guest.

    Args:
        directory: where they are made, on the host.

    Returns:
        The options of `vccidctl insert` for that card.
    """
    names = []
    for file in Issued(directory, *piv.KINDS).files:
        names.append(f"/etc/pki/piv/{file.name}")
        guest.write(names[-1], file.read_bytes())
    return f"--card piv --certs {','.join(names)}"
