# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole of it: the real daemon, its driver, and as many hosts as a test wants.

with Stage(tmp_path) as stage:
    stage.daemon.ctl("insert", "--db", database, "--certs", "cert1,cert2,cert3")
    desk = stage.host()
    desk.say("opensc-tool", "--name")
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.peers.daemon import Daemon
from tests.peers.desk import Desk
from tests.peers.private_pcscd import PrivatePcscd, ReaderEntry

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "build" / "libifdvccid.so"


class Stage:
    """A running daemon and the pcscds attached to it; all end when the block is left.

    Attributes:
        directory: where everything is; keep its path short.
        daemon: the daemon.
        pcscds: by the name of the host.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        """Nothing runs before the block begins; `environment` is more for the daemon."""
        self.directory = directory
        self.daemon = Daemon(directory / "vccid", environment)
        self.pcscds: dict[str, PrivatePcscd] = {}
        self._end = contextlib.ExitStack()

    def __enter__(self) -> Stage:
        self._end.enter_context(self.daemon)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.close()

    def host(self, name: str = "host", reader: str = "vccid0") -> Desk:
        """A pcscd of its own that has one of the readers, and a desk before it."""
        pcscd = PrivatePcscd(
            self.directory / name,
            [ReaderEntry(f"vccid {reader}", f"vccid:{self.daemon.ifd(reader)}", DRIVER)],
        )
        self.pcscds[name] = self._end.enter_context(pcscd)
        return Desk(self.directory / f"{name}-desk", pcscd.env)
