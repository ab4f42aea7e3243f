# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our card in a QEMU guest: the client of QEMU's ccid-card-passthru, as vscclient is.

`VscFrontend` dials, and dials again whenever QEMU was gone; `vsc_link` has one connection.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from vccid.errors import ProtocolError
from vccid.frontends.vsc_link import VscLink
from vccid.reader import Host, Reader
from vccid.transport import Endpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits, in seconds.

    Attributes:
        ready: for QEMU's Init and a reader; a second client waits unheard in QEMU's backlog.
        first_retry: before the first new dial; doubled for each one that fails.
        last_retry: the longest wait between two dials.
        exchange: between CardRemove and ATR, for the guest's driver to fetch the
            notification; QEMU makes one of two.
        leave: for QEMU to answer before the connection is closed.
    """

    ready: float = 5.0
    first_retry: float = 0.25
    last_retry: float = 10.0
    exchange: float = 1.0
    leave: float = 2.0


class VscFrontend(Host):
    """One reader shown to one QEMU.

    Attributes:
        state: for `vccidctl status`.
        trouble: what last went wrong, or "".
        commands: how many APDUs came in.
        connections: how often QEMU took the reader.
    """

    kind = "vsc"

    def __init__(self, reader: Reader, endpoint: Endpoint, timing: Timing = Timing()) -> None:  # noqa: B008 - frozen
        endpoint.check()
        self.peer = str(endpoint.address)
        self.seen = 0
        self.state: Literal["dialling", "attached", "waiting", "closed"] = "waiting"
        self.trouble = ""
        self.commands = 0
        self.connections = 0
        self.reader = reader
        self.timing = timing
        self._endpoint = endpoint
        self._link: VscLink | None = None
        self._runner: asyncio.Task[None] | None = None

    def card_changed(self) -> None:
        if self._link is not None:
            self._link.look()

    def start(self) -> None:
        """Begin to dial."""
        self._runner = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Take card and reader out of the guest, hang up, and stop. May be repeated."""
        runner, self._runner = self._runner, None
        if self._link is not None:
            await self._link.leave()
        if runner is not None:
            runner.cancel()
            await asyncio.wait([runner])
        self.state = "closed"

    async def _run(self) -> None:
        retry = self.timing.first_retry
        while True:
            self.state = "dialling"
            try:
                await self._serve()
                retry = self.timing.first_retry
                self._troubled("QEMU hung up")
            except (OSError, ProtocolError) as error:
                self._troubled(str(error) or type(error).__name__)
            self.state = "waiting"
            await asyncio.sleep(retry)
            retry = min(retry * 2, self.timing.last_retry)

    async def _serve(self) -> None:
        """One connection, from dial to end."""
        link = await asyncio.wait_for(self._endpoint.dial(lambda: VscLink(self)), self.timing.ready)
        self._link = link
        try:
            await asyncio.wait_for(link.wait_ready(), self.timing.ready)
            self.state, self.trouble = "attached", ""
            self.connections += 1
            _log.info("reader %s is in the guest at %s", self.reader.name, self.peer)
            await link.wait_closed()
        except TimeoutError:
            raise TimeoutError(
                "no answer to Init: another client may hold QEMU's character device"
            ) from None
        finally:
            self._link = None
            link.abort()

    def _troubled(self, trouble: str) -> None:
        if trouble != self.trouble:
            _log.info("reader %s, guest at %s: %s", self.reader.name, self.peer, trouble)
        self.trouble = trouble
