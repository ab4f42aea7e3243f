# SPDX-License-Identifier: LGPL-2.1-or-later
"""The control socket's end: no connection outlives it, whatever it was at."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import cast

import pytest

from vccid.daemon.access import Access
from vccid.daemon.control import ControlServer
from vccid.daemon.methods import Methods

CALL = b'{"method":"org.varlink.service.GetInfo"}\0'


@pytest.mark.parametrize("turns", range(12))
def test_a_call_at_the_end_does_not_keep_the_connection(tmp_path: Path, turns: int) -> None:
    """The end comes some turns of the loop behind the call: before, in and after its reply."""

    async def call_and_stop() -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "control"))
        server = ControlServer(cast(Methods, None), Access(""))
        await server.start(listening)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        writer.write(CALL)
        await reader.readuntil(b"\0")
        writer.write(CALL)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await server.stop()
        writer.close()

    asyncio.run(call_and_stop())
