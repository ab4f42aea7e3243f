# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 at random points of a PIN sequence, 200 times: no try ever comes back by it.

The reader's socket is spoken to directly, and the daemon puts the card back by itself.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.desk import PIN, WRONG_PIN
from tests.peers.ifd_client import Gone, IfdClient
from tests.peers.libcacard import Database
from tests.peers.pem import make_pem
from tests.peers.stage import Stage
from vccid.iso7816 import status

KILLS = 100  # for each kind of PIN

MAX_TRIES = 3

#: The latest kill, in times of what a VERIFY takes.
LATEST_KILL = 1.25

VERIFY_EMPTY = bytes.fromhex("0020000000")
SELECT_ID = bytes.fromhex("00A4040007A0000000790100")


def verify(pin: str) -> bytes:
    return bytes.fromhex("0020000008") + pin.encode().ljust(8, b"\xff")


def tries_in(answer: bytes) -> int:
    """Tries a status word tells: 63Cx, or 6983 for none."""
    if answer == status.AUTHENTICATION_BLOCKED:
        return 0
    assert answer[0] == 0x63 and answer[1] & 0xF0 == 0xC0, answer.hex()
    return answer[1] & 0x0F


@dataclass
class Tally:
    """What may be left on the card.

    Attributes:
        most: tries it may have at most, all answers considered.
        least: at least; one less than the last known while an attempt is unanswered.
        unanswered: kills that hit an attempt before its answer came.
    """

    most: int = MAX_TRIES
    least: int = MAX_TRIES
    unanswered: int = 0

    def attempt(self, right: bool) -> None:
        """An attempt is on its way: it may have been counted, and given back if right."""
        self.least = max(0, self.least - 1)
        if right and self.most > 0:
            self.most = MAX_TRIES

    def known(self, tries: int) -> None:
        """The card itself said what is left."""
        self.most = self.least = tries


def connect(stage: Stage) -> IfdClient:
    """A powered session, as soon as the restarted daemon has its card back."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            host = IfdClient(stage.daemon.ifd())
        except Gone:
            time.sleep(0.005)
            continue
        if host.power_on() is not None:
            host.transmit(SELECT_ID)
            return host
        host.close()
        time.sleep(0.005)
    raise AssertionError("the card did not come back")


def verify_takes(stage: Stage) -> float:
    """Seconds a VERIFY takes in a daemon just started; the median of five."""
    spent = []
    for _ in range(5):
        with connect(stage) as host:
            begin = time.perf_counter()
            assert host.transmit(verify(PIN)) == status.SUCCESS
            spent.append(time.perf_counter() - begin)
        stage.daemon.kill()
        stage.daemon.start()
    return sorted(spent)[2]


def attempt_and_kill(
    stage: Stage, host: IfdClient, tally: Tally, chance: random.Random, latest: float
) -> None:
    """No or one whole attempt, then one with a kill somewhere in it, `latest` seconds on."""
    if chance.random() < 0.3:
        try_pin(host, tally, chance)
    right = chance.random() < 0.3
    host.begin(verify(PIN if right else WRONG_PIN))
    time.sleep(chance.uniform(0, latest))
    stage.daemon.kill()
    before, tally_before = tally.most, tally.least
    tally.attempt(right)
    try:
        answer = host.finish()
    except Gone:
        tally.unanswered += 1
    else:
        judge(answer, right, before, tally_before, tally)


def try_pin(host: IfdClient, tally: Tally, chance: random.Random) -> None:
    """One attempt that is answered."""
    right = chance.random() < 0.3
    judge(host.transmit(verify(PIN if right else WRONG_PIN)), right, tally.most, tally.least, tally)


def judge(answer: bytes, right: bool, most: int, least: int, tally: Tally) -> None:
    """An answer must fit what the card may have had before."""
    if answer == status.SUCCESS:
        assert right and most > 0
        tally.known(MAX_TRIES)
        return
    left = tries_in(answer)
    assert not right or left == 0, "the right PIN was called wrong"
    assert max(0, least - 1) <= left <= max(0, most - 1)
    tally.known(left)


def settle(stage: Stage, tally: Tally) -> None:
    """Ask the card what is left; a blocked one is unblocked, so that the run goes on."""
    with connect(stage) as host:
        answer = host.transmit(VERIFY_EMPTY)
        left = tries_in(answer)
        assert tally.least <= left <= tally.most, "a try came back, or went without an attempt"
        tally.known(left)
    if left == 0:
        stage.daemon.ctl("pin", "reset")
        tally.known(MAX_TRIES)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["token", "card"])
def test_no_try_comes_back(kind: str, tmp_path: Path, database: Database) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    tally = Tally()
    with Stage(tmp_path) as stage:
        insert(stage, kind, database)
        latest = verify_takes(stage) * LATEST_KILL
        for number in range(3 * KILLS):
            # On a busy machine fewer hit; it goes on until enough have.
            if number >= KILLS and tally.unanswered > KILLS // 10:
                break
            with connect(stage) as host:
                attempt_and_kill(stage, host, tally, chance, latest)
            stage.daemon.start()
            settle(stage, tally)
    # The kills must have hit something: neither all before the attempt nor all behind it.
    assert KILLS // 10 < tally.unanswered < KILLS


def insert(stage: Stage, kind: str, database: Database) -> None:
    """A card with the database's password for a PIN, or one with a PIN of its own."""
    if kind == "token":
        stage.daemon.ctl("insert", "--db", f"sql:{database.directory}", "--certs", "cert1")
        return
    pin = stage.directory / "pin"
    pin.write_text(f"{PIN}\n")
    pem = make_pem(stage.directory / "cert1.pem")
    stage.daemon.ctl("insert", "--certs", pem, "--pin-file", pin)
