# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holds conversations with a card in a PC/SC reader, as a program of its own.

    python3 -m tests.conversations.pcsc [--piv] READER PIN DOOR [REMOVE INSERT]

With --piv the card is a PIV card. READER is a part of the reader's name, DOOR one of `doors`,
REMOVE and INSERT are what a shell does to take the card out and put it back. What came of each
conversation that the door is open to is told as a JSON object: "" or what was wrong. libpcsclite
reads its environment once a process; and in a guest there is no pytest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from smartcard import scard

from tests.conversations import cac, piv
from tests.conversations.doors import DOORS, Door
from tests.conversations.steps import Card, T0Application

ROOT = Path(__file__).parents[2]
_BOTH = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1


def hold_by_pcsc(
    env: Mapping[str, str],
    door: Door,
    pin: str,
    hands: Sequence[str],
    reader: str = "",
    options: Sequence[str] = (),
) -> dict[str, str]:
    """Have the program hold them, at the pcscd of `env`; `hands` are REMOVE and INSERT."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, *options, reader, pin, door.name, *hands],
        stdout=subprocess.PIPE,
        env=dict(env),
        cwd=ROOT,
        timeout=100,
        check=True,
    )
    told: dict[str, str] = json.loads(done.stdout)
    return told


#: pcscd's reader that changes when readers come and go.
_ANY_READER = "\\\\?PnP?\\Notification"
_PATIENCE_MS = 30_000


class PcscCard:
    """The card in a reader, shared; it may be on its way still."""

    def __init__(self, reader: str, pin: bytes, hands: Sequence[str] = ()) -> None:
        self.pin = pin
        self._reader = reader
        self._hands = hands
        _, self._context = _checked(scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM))
        self._connect()

    def _connect(self) -> None:
        name = _reader(self._context, self._reader, scard.SCARD_STATE_PRESENT)
        connected = scard.SCardConnect(self._context, name, scard.SCARD_SHARE_SHARED, _BOTH)
        _, self._card, self._protocol = _checked(connected)

    def remove(self) -> None:
        _do(self._hands[0])
        _reader(self._context, self._reader, scard.SCARD_STATE_EMPTY)

    def insert(self) -> None:
        _do(self._hands[1])
        self._connect()

    def power_on(self) -> bytes:
        again = scard.SCardReconnect(
            self._card, scard.SCARD_SHARE_SHARED, _BOTH, scard.SCARD_RESET_CARD
        )
        _, self._protocol = _checked(again)
        return bytes(_checked(scard.SCardStatus(self._card))[4])

    def transmit(self, command: bytes) -> bytes:
        return bytes(_checked(scard.SCardTransmit(self._card, self._protocol, list(command)))[1])


def _do(command: str) -> None:
    subprocess.run(["sh", "-c", command], check=True, stdout=subprocess.DEVNULL)


def _reader(context: int, part: str, wanted: int) -> str:
    """The reader of that name, once it is in this state, or gone where it is to be empty."""
    empty = wanted == scard.SCARD_STATE_EMPTY
    while True:
        code, readers = scard.SCardListReaders(context, [])
        name = next((name for name in readers if part in name), None) if code == 0 else None
        if name is None and empty:
            return ""
        other = scard.SCARD_STATE_PRESENT if empty else scard.SCARD_STATE_EMPTY
        known = [(name or _ANY_READER, other if name else scard.SCARD_STATE_UNAWARE)]
        _, ((_, state, _),) = _checked(scard.SCardGetStatusChange(context, _PATIENCE_MS, known))
        if name is not None and state & wanted:
            return name


def _checked(result: list) -> list:  # type: ignore[type-arg]
    assert result[0] == scard.SCARD_S_SUCCESS, scard.SCardGetErrorMessage(result[0])
    return result


def _main(*arguments: str) -> None:
    is_piv = arguments[0] == "--piv"
    reader, pin, name, *hands = arguments[is_piv:]
    conversations = piv.CONVERSATIONS if is_piv else cac.CONVERSATIONS
    door = next(door for door in DOORS if door.name == name)
    card: Card = PcscCard(reader, pin.encode(), hands)
    if door.takes_tpdus:
        card = T0Application(card)
    told = {}
    for conversation in door.open_to(conversations):
        try:
            conversation.hold(card)
            told[conversation.name] = ""
        except AssertionError as error:
            told[conversation.name] = str(error)
    print(json.dumps(told))


if __name__ == "__main__":
    _main(*sys.argv[1:])
