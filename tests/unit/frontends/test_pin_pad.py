# SPDX-License-Identifier: LGPL-2.1-or-later
"""A reader's key pad: who is typed to, where hosts come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.unit.frontends.pcsc.test_pin_pad_controls import VERIFY_STRUCTURE
from vccid.ccid.pin_entry import PinEnd, PinOperation, PinRequest
from vccid.errors import ReaderError
from vccid.frontends.pin_pad import PinPad

REQUEST = PinRequest.parse_part10(PinOperation.VERIFY, VERIFY_STRUCTURE)

Answer = asyncio.Task[tuple[str, ...] | PinEnd]


@pytest.fixture
def pad() -> PinPad:
    return PinPad()


@pytest.fixture
async def hosts(pad: PinPad) -> AsyncIterator[list[Answer]]:
    """Two that ask, one after the other."""
    asking = [asyncio.ensure_future(pad.ask(host, REQUEST)) for host in ("first", "second")]
    await asyncio.sleep(0)
    yield asking
    for task in asking:
        task.cancel()


async def test_each_entry_has_a_name_of_its_own(pad: PinPad, hosts: list[Answer]) -> None:
    first = await pad.wait_asked(0)
    assert pad.find(first.id) is first and first.host == "first"
    first.cancel()
    second = await pad.wait_asked(0)
    assert second.host == "second" and second.id != first.id


@pytest.mark.parametrize("end", ["left", "answered"])
async def test_what_one_host_asked_for_is_typed_to_no_other(
    pad: PinPad, hosts: list[Answer], end: str
) -> None:
    entry = await pad.wait_asked(0)
    if end == "left":
        hosts[0].cancel()
    else:
        pad.first().cancel()
    for way in (entry.cancel, entry.time_out, lambda: entry.enter(["123456"])):
        with pytest.raises(ReaderError, match="does not wait for it any more"):
            way()
    with pytest.raises(ReaderError, match="does not wait for it any more"):
        pad.find(entry.id)
    assert not hosts[1].done()
    pad.first().enter(["654321"])
    assert await hosts[1] == ("654321",)


async def test_what_was_typed_counts_though_the_time_ran_out_just_then() -> None:
    loop, pad = asyncio.get_running_loop(), PinPad(default_timeout=0.1)
    host = asyncio.ensure_future(pad.ask("host", replace(REQUEST, timeout=0)))
    await asyncio.sleep(0)
    # Earlier than the time, and in the same turn as soon as the loop is late for both.
    loop.call_later(0.09, pad.first().enter, ["123456"])
    loop.call_later(0.05, time.sleep, 0.1)
    assert await host == ("123456",)


async def test_what_is_typed_as_the_time_has_run_out_is_refused() -> None:
    loop, pad = asyncio.get_running_loop(), PinPad(default_timeout=0.1)
    host = asyncio.ensure_future(pad.ask("host", replace(REQUEST, timeout=0)))
    entry = await pad.wait_asked(1)
    typed = loop.create_future()

    def enter() -> None:
        try:
            typed.set_result(entry.enter(["123456"]))
        except ReaderError as error:
            typed.set_exception(error)

    loop.call_later(0.11, enter)
    loop.call_later(0.05, time.sleep, 0.1)
    with pytest.raises(ReaderError, match="does not wait"):
        await typed
    assert await host is PinEnd.TIMEOUT
