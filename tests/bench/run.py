# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `vccid run` costs a command, beside an interpreter that starts and does nothing.

The processor time of all processes of a run, the least of many: on a machine with other things to
do, the clock tells of those. What is imported is compiled before, as an installed package is.
Prints the figures as JSON (see tests.bench.__main__).
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import vccid
from tests.peers.daemon import BIN

#: Runs of each, in turns; of those that make RSA keys, whose time varies, fewer.
TURNS, LONG_TURNS = 25, 7
#: Certificates of a CAC.
KEYS: Final = 3

RUN: Final = (str(BIN / "vccid"), "run")
WAYS: Final = {
    "nothing": (sys.executable, "-c", "pass"),
    "plain": (*RUN, "--", "true"),
    "piv": (*RUN, "--generate", "--card", "piv", "--", "true"),
}
CAC: Final = (*RUN, "--generate", "--", "true")
RSA_KEY: Final = ("openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-out", os.devnull)


class Cost(NamedTuple):
    """Of one run and its children, in milliseconds."""

    processor: float
    clock: float


def cost(command: Sequence[str]) -> Cost:
    """Run it once."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    clock = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Cost((used.ru_utime + used.ru_stime) * 1000, clock * 1000)


def least(costs: Sequence[Cost]) -> Cost:
    return Cost(*map(min, zip(*costs, strict=True)))


def figure(
    name: str, value: float, floor: float | None = None, target: float | None = None
) -> dict[str, object]:
    return {"name": name, "value": value, "unit": "ms", "floor": floor, "target": target}


def main() -> None:
    compileall.compile_dir(Path(vccid.__file__).parent, quiet=2)
    turns = [{name: cost(command) for name, command in WAYS.items()} for _ in range(TURNS)]
    nothing, plain, piv = (least([turn[name] for turn in turns]) for name in WAYS)
    long_turns = [(cost(CAC), [cost(RSA_KEY) for _ in range(KEYS)]) for _ in range(LONG_TURNS)]
    cac = statistics.median(whole.processor for whole, _ in long_turns) - plain.processor
    keys = statistics.median(sum(key.processor for key in keys) for _, keys in long_turns)
    base = "beside: `python3 -c pass`"
    figures = [
        figure(f"`vccid run -- true`, processor; {base}", plain.processor, nothing.processor, 150),
        figure(f"`vccid run -- true`, by the clock; {base}", plain.clock, nothing.clock),
        figure(
            "`--generate --card piv` adds, processor",
            piv.processor - plain.processor,
            target=100,
        ),
        figure("`--generate --card piv` adds, by the clock", piv.clock - plain.clock),
        figure(
            "`--generate` of a CAC adds, processor, median; beside: its keys by `openssl genpkey`",
            cac,
            keys,
        ),
    ]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
