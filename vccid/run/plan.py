# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be kept for one `vccid run`, and where it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vccid.run.log import Log


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be kept.

    Attributes:
        directory: scratch, ours alone, removed at the end; pcscd's socket is there.
        runtime: where the daemon's sockets are.
        daemon: the daemon's command line.
        pcscd: the program.
        driver: libifdvccid.so.
        readers: how many there must be, named vccid0 and on.
        log: what daemon and pcscd print.
    """

    directory: Path
    runtime: Path
    daemon: list[str]
    pcscd: str
    driver: Path
    readers: int
    log: Log

    @property
    def control(self) -> Path:
        """The daemon's control socket."""
        return self.runtime / "control"

    @property
    def pcscd_socket(self) -> Path:
        """Where pcscd's clients connect."""
        return self.directory / "pcscd.comm"

    def handed_on(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The command's environment, which leads its programs to daemon and pcscd."""
        return {
            **inherited,
            "VCCID_SOCKET": os.fspath(self.control),
            "PCSCLITE_CSOCK_NAME": os.fspath(self.pcscd_socket),
        }
