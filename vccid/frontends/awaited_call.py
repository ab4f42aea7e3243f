# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a frontend comes to its connection with a QEMU that dials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from vccid.errors import ConfigError
from vccid.frontends.dialling import Call, L, Timing
from vccid.frontends.dialling_states import Event, State
from vccid.links.transport import Endpoint, Listening
from vccid.process.log_rate_limit import LogRateLimit

_log = logging.getLogger(__name__)


class AwaitedCall(Call[L]):
    """We listen, and take one peer at a time."""

    def __init__(
        self, reader: str, peer: str, endpoint: Endpoint, make: Callable[[], L], timing: Timing
    ) -> None:
        super().__init__(reader, peer, endpoint, make, timing)
        self._reader = reader
        self._refused = LogRateLimit(_log)
        self._server: Listening | None = None

    async def start(self) -> None:
        try:
            self._server = await self._endpoint.listen(self._accept)
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {self._endpoint.address}: {error.strerror or error}"
            ) from error
        self._move(Event.LISTEN)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await super().close()

    def _accept(self) -> asyncio.Protocol:
        return _Newcomer(self._came)

    def _came(self, transport: asyncio.Transport) -> None:
        """A peer is there, through TLS's handshake where there is TLS."""
        if self.link is not None or self.state is State.CLOSED:
            text = "%s: a second peer is refused, there is one"
            self._refused.tell("", logging.WARNING, text, self._peer, reader=self._reader)
            transport.close()
            return
        self.link = link = self._make()
        transport.set_protocol(link)
        link.connection_made(transport)
        self._keep(self._serve_accepted(link))

    async def _serve_accepted(self, link: L) -> None:
        await self._serve(link)
        self._move(Event.LISTEN)


class _Newcomer(asyncio.Protocol):
    """Who has connected and is no peer before there is a transport to it.

    With TLS that is after the handshake, which one that is silent never comes through.
    """

    def __init__(self, came: Callable[[asyncio.Transport], None]) -> None:
        self._came = came

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports do not derive from asyncio's.
        self._came(cast(asyncio.Transport, transport))
