# SPDX-License-Identifier: LGPL-2.1-or-later
"""A `PcscRelay` in a process of its own: libpcsclite reads its environment once a process.

    python -m tests.peers.pcsc_relay READER exclusive|shared|emulated TRIES_KEPT [SOCKET]

`emulated` puts a fake card in while the real one is there. At SOCKET it serves pcscd's driver.

A word a line on standard input, an answer a line on standard output: `in` and `out` wait for
a card to be there or not, `on` and `off` power it, hexadecimal is a command APDU, `status`
tells, `host` is a second host that asks for the card.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import TracebackType

from tests.answers import Answer
from tests.peers.far import until
from tests.unit.fakes import FakeCard
from vccid.backends.pcsc import PcscEmulation, PcscRelay
from vccid.backends.pcsc_card import RelaySettings
from vccid.card.card import Card, Session
from vccid.errors import TokenGone, VccidError
from vccid.frontends.pcsc.driver import IfdFrontend
from vccid.reader import Reader

SERIAL = "5E41A15E41A1FACE"


class RelayProcess:
    """The process; `ask` a word, get the answer."""

    def __init__(
        self,
        env: Mapping[str, str],
        reader: str,
        share: str = "shared",
        tries_kept: int = 2,
        socket: Path | None = None,
    ) -> None:
        self._child = subprocess.Popen(
            [
                *(sys.executable, "-m", __name__, reader, share, str(tries_kept)),
                *([] if socket is None else [str(socket)]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def ask(self, word: str) -> str:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(word + "\n")
        self._child.stdin.flush()
        return self._child.stdout.readline().strip()

    def send(self, command: str) -> Answer:
        """Exchange an APDU, given in hexadecimal."""
        return Answer(bytes.fromhex(self.ask(command)), bytes.fromhex(command))

    def __enter__(self) -> RelayProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.kill()
        self._child.communicate()


async def _do(
    word: str, relay: PcscRelay | PcscEmulation, reader: Reader, sessions: list[Session]
) -> str:
    if word == "in":
        await until(lambda: reader.card)
        return reader.card.atr.hex() if reader.card is not None else ""
    if word == "out":
        await until(lambda: reader.card is None)
        return "out"
    if word == "status":
        return relay.status
    if word == "on":
        sessions.append(await reader.power_on())
        return sessions[-1].atr.hex()
    if word == "off":
        reader.power_off(sessions.pop())
        return "off"
    if word == "host":
        await reader.power_on()
        return "on"
    return (await sessions[-1].transmit(bytes.fromhex(word))).hex()


def _relay(reader: Reader, name: str, share: str, tries_kept: str) -> PcscRelay | PcscEmulation:
    def is_ours(serial: str) -> bool:
        return serial == SERIAL

    if share != "emulated":
        settings = RelaySettings(exclusive=share == "exclusive", tries_kept=int(tries_kept))
        return PcscRelay(reader, name, is_ours, settings)
    attempts = count()

    async def make() -> Card:
        if next(attempts) == 1:
            raise TokenGone("the second time it fails")
        return FakeCard()

    return PcscEmulation(reader, name, is_ours, make)


async def _main(name: str, share: str, tries_kept: str, socket: str = "") -> None:
    reader = Reader("relay")
    relay = _relay(reader, name, share, tries_kept)
    if socket:
        await IfdFrontend(reader, Path(socket), SERIAL).start()
    await relay.start()
    sessions: list[Session] = []
    while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
        try:
            answer = await _do(word, relay, reader, sessions)
        except VccidError as error:
            answer = f"{type(error).__name__}: {error}"
        print(answer, flush=True)
    await relay.stop()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
