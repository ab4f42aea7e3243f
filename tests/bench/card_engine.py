# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card engine alone, APDUs a second, beside libcacard through ctypes on the same sequence.

Prints a JSON list; run it as `python -m tests.bench.card_engine`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from tests.cards import PIN, Driver, MemoryToken, card_with_token, pkcs12_of, three_credentials
from tests.conversations.cac import CCC, PKI0
from tests.peers.libcacard import Libcacard, fill_database

#: What an OpenSC session is made of, most of it T=0: each answer is fetched.
SEQUENCES: Final[Mapping[str, Sequence[str]]] = {
    "SELECT": [f"00 A4 04 00 07 {PKI0} 00"],
    "READ BUFFER": ["00 52 00 02 02 02 F0 F0"],
    "an OpenSC start": [
        "00 A4 04 00 09 A0 00 00 03 08 00 00 10 00",
        f"00 A4 04 0C 07 {CCC}",
        "00 C0 00 00 0D",
        "00 52 00 00 02 01 02",
        "00 C0 00 00 02",
        "00 52 00 02 02 01 34",
        "00 C0 00 00 34",
        f"00 A4 04 00 07 {PKI0}",
        "00 A4 02 00 02 01 00",
        "00 52 00 00 02 02 02",
        "00 C0 00 00 02",
        "00 52 00 02 02 02 F0",
        "00 C0 00 00 F0",
    ],
}

_ROUNDS: Final = 7
_APDUS_A_ROUND: Final = 20_000


def _ours_seconds(driver: Driver, batch: Sequence[bytes], times: int) -> float:
    execute = driver.session.execute
    start = time.perf_counter()
    for _ in range(times):
        for command in batch:
            execute(command)
    return time.perf_counter() - start


def measure() -> list[dict[str, object]]:
    """One entry for each sequence: ours, libcacard's as the floor, and their ratio."""
    credentials = three_credentials()
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        files = [pkcs12_of(item, PIN.decode()) for item in credentials]
        database = fill_database(Path(scratch) / "db", PIN.decode(), files)
        driver = Driver(card_with_token(credentials, Path(scratch) / "state", MemoryToken()))
        with Libcacard(database) as libcacard:
            for name, commands in SEQUENCES.items():
                results.append(
                    _compare(name, [bytes.fromhex(c) for c in commands], driver, libcacard)
                )
        driver.close()
    return results


def _compare(
    name: str, batch: Sequence[bytes], driver: Driver, libcacard: Libcacard
) -> dict[str, object]:
    """Rounds in turn, so that a busy machine is busy for both; medians of them."""
    select = bytes.fromhex(f"00 A4 04 00 07 {PKI0}")
    driver.transmit(select)
    libcacard.transmit([select])
    times = _APDUS_A_ROUND // len(batch)
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(_ours_seconds(driver, batch, times))
        theirs.append(libcacard.seconds_for(batch, times))
    count = times * len(batch)
    value, floor = count / median(ours), count / median(theirs)
    return {
        "name": f"card engine, {name}; beside: libcacard through ctypes",
        "value": round(value),
        "unit": "APDU/s",
        "floor": round(floor),
        "ratio": round(value / floor, 2),
        "target": 1.0,
        "better": "higher",
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
