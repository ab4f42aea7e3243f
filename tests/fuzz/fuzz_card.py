# SPDX-License-Identifier: LGPL-2.1-or-later
"""atheris over a CAC and over the row of a card by the standard: any commands, sound answers.

python -m tests.fuzz.fuzz_card -runs=10000000
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vccid.card", "vccid.iso7816", "vccid.trace"]):
    from vccid.card import pin as card_pin
    from vccid.card.cac.cac_card import CacCard, card_serial
    from vccid.card.card import Session
    from vccid.card.line_ups import by_standard
    from vccid.card.processors import Answer
    from vccid.card.session import CardSession, Lifetime
    from vccid.card.state import StateStore
    from vccid.errors import RemoteProtocolError
    from vccid.iso7816.apdu import Command
    from vccid.trace.lines import exchange_text

from tests.cards import PIN, at_once, credential
from vccid.keys.base import Credential, RsaPrivateKey

ATR = bytes.fromhex("3B00")

TRIES = 3

#: GET CERTIFICATE says what is left in a way of its own, with or without Le.
GET_CERTIFICATE = 0x36


class EchoKey(RsaPrivateKey):
    """Gives back what it is to work on: arithmetic is not what is tried here."""

    size_bits = 1024

    def raw(self, block: bytes) -> bytes:
        return block


def long_answers(command: Command) -> Answer:
    """An application whose answers are as long as P2 says, in units of 8 bytes."""
    return bytes(8 * command.p2) + b"\x90\x00"


def by_the_standard() -> Session:
    return CardSession(ATR, by_standard(long_answers, chained=(0x87, 0xDB)), Lifetime())


def commands(data: bytes) -> Iterator[bytes]:
    """A byte says how long each command is; FF stands for as much as there is."""
    while data:
        count = len(data) if data[0] == 0xFF else data[0]
        yield data[1 : 1 + count]
        data = data[1 + count :]


def check(raw: bytes, answer: bytes) -> None:
    """ISO/IEC 7816-4, 5.6: a status word, and data only where it may come with it."""
    assert len(answer) >= 2
    data, first, second = answer[:-2], answer[-2], answer[-1]
    assert 0x61 <= first <= 0x6F or (first, second) == (0x90, 0x00)
    if data:
        assert first in (0x61, 0x62, 0x63, 0x90), "an error has no data"
    try:
        command = Command.parse(raw)
    except RemoteProtocolError:
        assert answer == b"\x67\x00"
        return
    if command.ins != GET_CERTIFICATE:
        assert len(data) <= (command.le or 256)


class Target:
    """The two cards, and a loop for what waits."""

    def __init__(self) -> None:
        held = credential("small0", 1024).certificate
        card_pin.SCRYPT_COST = 16  # a PIN's hash costs what a run can spare
        state = StateStore(Path(tempfile.mkdtemp()))
        self.runner = asyncio.Runner()
        self.pin = self.runner.run(card_pin.CardPin.open(state, card_serial([held]), at_once, PIN))
        self.cac = CacCard([Credential("small0", held, EchoKey(), None)], self.pin, at_once)

    def one_input(self, data: bytes) -> None:
        """The first byte says which card; the rest is what it is sent."""
        standard = bool(data and data[0] & 1)
        if self.pin.tries_left < TRIES:
            self.runner.run(self.pin.reset())
        session = by_the_standard() if standard else self.runner.run(self.cac.connect())
        exchanges: list[tuple[bytes, bytes]] = []
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(report, exchanges)
            for raw in commands(data[1:]):
                exchanges.append((raw, b""))
                answer = session.execute(raw)
                whole = answer if isinstance(answer, bytes) else self.waited(answer)
                exchanges[-1] = raw, whole
                check(raw, whole)
            on_failure.pop_all()

    def waited(self, answer: Answer) -> bytes:
        async def wait() -> bytes:
            assert not isinstance(answer, bytes)
            return await answer

        return self.runner.run(wait())


def report(exchanges: list[tuple[bytes, bytes]]) -> None:
    """The conversation in words, up to what failed."""
    for raw, answer in exchanges:
        print(exchange_text(raw, answer), file=sys.stderr)


if __name__ == "__main__":
    atheris.Setup(sys.argv, Target().one_input)
    atheris.Fuzz()
