# SPDX-License-Identifier: LGPL-2.1-or-later
"""Random calls of several programs: pcscd, the daemon's own door and a model must agree.

PCSC_EXAMPLES=10000 runs it for long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.peers import pcsclite_client as pc
from tests.peers.pcsc_model import Held, Model
from tests.peers.pcsclite_client import RawClient
from tests.peers.plain_card import SELECT
from tests.peers.plain_daemon import PlainDaemon
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry
from tests.peers.stage import DRIVER

READER: Final = "vccid vccid0 00 00"
PROGRAMS: Final = 3
PATIENCE: Final = 10
#: Seconds for which whoever was refused a transaction is let in before others: docs/pcsc.md.
PLACE_KEPT: Final = 0.3
EXAMPLES: Final = int(os.environ.get("PCSC_EXAMPLES", "60"))

MODE = st.sampled_from([pc.SHARED] * 5 + [pc.DIRECT, pc.EXCLUSIVE, 0])
PROTOCOLS = st.sampled_from([3, 3, 3, 1, 2, 0x1000, 8, 0])
DISPOSITION = st.sampled_from([pc.LEAVE] * 4 + [pc.RESET, pc.UNPOWER, pc.EJECT, 4])
WHICH = st.integers(0, 5)

STEP = st.one_of(
    st.tuples(st.just("connect"), st.integers(0, PROGRAMS - 1), MODE, PROTOCOLS),
    st.tuples(st.just("reconnect"), WHICH, MODE, PROTOCOLS, DISPOSITION),
    st.tuples(st.just("disconnect"), WHICH, DISPOSITION),
    st.tuples(st.just("begin"), WHICH),
    st.tuples(st.just("end"), WHICH, DISPOSITION),
    st.tuples(st.just("status"), WHICH),
    st.tuples(st.just("transmit"), WHICH, st.sampled_from([1, 1, 2, 0])),
    st.tuples(st.just("control"), WHICH),
    st.tuples(st.just("attribute"), WHICH),
    st.tuples(st.just("kill"), st.integers(0, PROGRAMS - 1)),
    st.tuples(st.just("card")),
)


def minor_of(path: Path) -> int:
    """The minor version to speak: Debian 13's pcscd refuses any but its own, and tells which."""
    with RawClient(path) as client:
        _, minor, _ = client.version()
    return minor


class Side:
    """One server of the protocol, asked what the model is asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._minor = minor_of(path)
        self._watch = RawClient(path, self._minor)
        self._watch.establish()
        self._programs: list[RawClient | None] = [None] * PROGRAMS
        self._handles: dict[Held, tuple[RawClient, int]] = {}

    def close(self) -> None:
        for client in (self._watch, *self._programs):
            if client is not None:
                client.close()

    def begin_anew(self) -> None:
        """Everybody leaves, and the card has no power."""
        for number in range(PROGRAMS):
            self.kill(number)
        self._handles.clear()
        self.wait_until(lambda seen: seen[1] == 0)
        watch = self._watch
        rv, handle, _ = watch.connect(READER)
        for _ in range(20):
            if rv == pc.SUCCESS:
                break
            time.sleep(0.05)  # pcscd, a moment after a card came
            rv, handle, _ = watch.connect(READER)
        assert rv == pc.SUCCESS
        assert watch.disconnect(handle, pc.UNPOWER) == pc.SUCCESS

    def seen(self) -> tuple[int, int, int]:
        _, state, sharing, atr, protocol = self._watch.states()[READER]
        assert bool(atr) == (state != 0x02)
        return state, sharing, protocol

    def wait_until(self, condition: Callable[[tuple[int, int, int]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition(self.seen()):
            assert time.monotonic() < deadline, self.seen()
            time.sleep(0.001)

    def connect(self, program: int, mode: int, protocols: int) -> tuple[int, int, int]:
        client = self._programs[program]
        if client is None:
            client = self._programs[program] = RawClient(self.path, self._minor)
            client.establish()
        return client.connect(READER, mode, protocols)

    def opened(self, held: Held, handle: int) -> None:
        client = self._programs[held.program]
        assert client is not None
        self._handles[held] = client, handle

    def ask(self, held: Held, verb: str, *arguments: int) -> int:
        client, handle = self._handles[held]
        if verb == "transmit":
            return client.transmit(handle, SELECT, *arguments)[0]
        if verb == "control":
            return client.control(handle, 0x42000D48)[0]
        if verb == "attribute":
            return client.attribute(handle, 0x7FFF0003)[0]
        answer: int = getattr(client, verb)(handle, *arguments)
        return answer

    def kill(self, program: int) -> None:
        client, self._programs[program] = self._programs[program], None
        if client is not None:
            client.close()


class Run:
    """One sequence of steps at the model and at both sides."""

    def __init__(self, daemon: PlainDaemon, sides: list[Side]) -> None:
        self.model = Model()
        self.steps = 0
        self._daemon = daemon
        self._sides = sides
        self._refused = 0.0
        for side in sides:
            side.begin_anew()

    def end(self) -> None:
        if not self.model.card:
            self._card()

    def step(self, verb: str, *arguments: int) -> None:
        self.steps += 1
        if verb == "connect":
            self._connect(*arguments)
        elif verb == "kill":
            self.model.kill(*arguments)
            for side in self._sides:
                side.kill(*arguments)
                side.wait_until(lambda seen: seen == self.model.seen())
        elif verb == "card":
            self._card()
        elif self.model.handles:
            self._ask(verb, *arguments)
        for side in self._sides:
            assert side.seen() == self.model.seen(), side.path

    def _connect(self, program: int, mode: int, protocols: int) -> None:
        expected = self.model.connect(program, mode, protocols)
        if expected is None:
            return
        for side in self._sides:
            rv, handle, protocol = side.connect(program, mode, protocols)
            assert rv == expected, side.path
            if rv == pc.SUCCESS:
                assert protocol == self.model.protocol, side.path
                side.opened(self.model.handles[-1], handle)

    def _ask(self, verb: str, which: int, *arguments: int) -> None:
        held = self.model.handles[which % len(self.model.handles)]
        expected = getattr(self.model, verb)(held, *arguments)
        if expected is None:
            return
        if expected == pc.SUCCESS and verb == "begin":
            time.sleep(max(0.0, self._refused + PLACE_KEPT - time.monotonic()))
        for side in self._sides:
            assert side.ask(held, verb, *arguments) == expected, side.path
        if expected == pc.SHARING_VIOLATION:
            self._refused = time.monotonic()

    def _card(self) -> None:
        if self.model.card:
            self.model.remove()
            self._daemon.ask("remove 0")
        else:
            self.model.insert()
            self._daemon.ask("insert 0")
        self._daemon.ask("seen 0")
        for side in self._sides:
            side.wait_until(lambda seen: seen == self.model.seen())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PlainDaemon, list[Side]]]:
    directory = tmp_path_factory.mktemp("m")
    ifd, door = directory / "vccid0.ifd", directory / "pcscd.comm"
    entry = ReaderEntry("vccid vccid0", f"vccid:{ifd}", DRIVER)
    with (
        PlainDaemon([ifd, door]) as daemon,
        PrivatePcscd(directory / "pcscd", [entry]) as pcscd,
    ):
        daemon.ask("attached 0")
        daemon.ask("insert 0")
        daemon.ask("seen 0")
        sides = [Side(pcscd.socket), Side(door)]
        yield daemon, sides
        for side in sides:
            side.close()


@pytest.mark.timeout(EXAMPLES + 60)
def test_pcscd_the_door_and_the_model_agree(stage: tuple[PlainDaemon, list[Side]]) -> None:
    daemon, sides = stage
    steps = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES == 60,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(STEP, min_size=5, max_size=30))
    def agree(wanted: list[tuple[str, ...]]) -> None:
        nonlocal steps
        run = Run(daemon, sides)
        try:
            for verb, *arguments in wanted:
                run.step(verb, *map(int, arguments))
        finally:
            steps += run.steps
            run.end()

    agree()
    print(f"{steps} steps")
