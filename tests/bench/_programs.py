# SPDX-License-Identifier: LGPL-2.1-or-later
"""The benches' programs in C, what apdu_client says, and the daemon's priority."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

#: The priority systemd/vccid.service gives the daemon.
AS_THE_UNIT: Final = ("nice", "--adjustment=-5")


class Times(NamedTuple):
    """Of one reader's APDUs, in seconds: their median, that of the quickest round, and the time
    that 99 of a hundred keep to."""

    median: float
    quickest: float
    p99: float


def build(source: str, program: Path, *options: str) -> Path:
    """Compile one of the sources here for PC/SC; returns `program`."""
    subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", "-I/usr/include/PCSC", "-O2",
         Path(__file__).parent / source, "-o", program, *options],
        check=True,
        timeout=60,
    )  # fmt: skip
    return program


def build_apdu_client(directory: Path) -> Path:
    """The program, in a directory."""
    return build("apdu_client.c", directory / "apdu_client", "-lpcsclite")


def apdu_times(said: str) -> list[Times]:
    """What apdu_client printed, a line for each reader."""
    return [Times(*(int(ns) / 1e9 for ns in line.split())) for line in said.splitlines()]
