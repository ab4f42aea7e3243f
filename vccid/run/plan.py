# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be kept for one `vccid run`, and where it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vccid.run.log import Log
from vccid.settings.directories import Directories


@dataclass(frozen=True, slots=True)
class Pcscd:
    """A pcscd of one's own.

    Attributes:
        program: pcscd.
        driver: libifdvccid.so.
    """

    program: str
    driver: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be kept.

    Attributes:
        directory: scratch, ours alone, removed at the end; pcscd's socket is there.
        places: the daemon's directories.
        settings: the daemon's, by table and key, as its command line has them.
        behind: the pcscd to have between, or None: programs find the daemon itself.
        readers: how many there must be, named vccid0 and on.
        label: what programs shall see the first by, or None.
        log: what daemon and pcscd print.
        detached: it outlives `vccid run`, until `vccid stop`.
        end_with: a process with whose end it ends too, or None.
    """

    directory: Path
    places: Directories
    settings: Mapping[tuple[str, str], str]
    behind: Pcscd | None
    readers: int
    log: Log
    detached: bool = False
    end_with: int | None = None
    label: str | None = None

    @property
    def control(self) -> Path:
        """The daemon's control socket."""
        return self.places.control

    @property
    def programs_socket(self) -> Path:
        """Where programs of PC/SC connect: pcscd's, or the daemon's own."""
        return (self.directory if self.behind is not None else self.places.runtime) / "pcscd.comm"

    @property
    def opensc_conf(self) -> Path:
        """OpenSC's settings, where it would not show all readers by its own."""
        return self.directory / "opensc.conf"

    def handed_on(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The command's environment, which leads its programs to daemon and pcscd."""
        added = {"OPENSC_CONF": os.fspath(self.opensc_conf)} if self.opensc_conf.exists() else {}
        if self.detached:
            added["VCCID_RUN"] = os.fspath(self.directory)
        return {
            **added,
            **inherited,
            "VCCID_SOCKET": os.fspath(self.control),
            "PCSCLITE_CSOCK_NAME": os.fspath(self.programs_socket),
        }
