# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads for what blocks, and a daemon that ends although one is stuck."""

from __future__ import annotations

import asyncio
import threading

import pytest

from vccid.readers import card_threads
from vccid.readers.card_threads import CardThreads


async def test_one_stuck_card_holds_up_no_other() -> None:
    release = threading.Event()
    slow, quick = CardThreads(), CardThreads()
    stuck = [asyncio.ensure_future(slow(release.wait)) for _ in range(20)]
    try:
        assert await quick(lambda: 7) == 7
        assert not any(work.done() for work in stuck)
        assert not card_threads.finish(0.05)
    finally:
        release.set()
        await asyncio.gather(*stuck, return_exceptions=True)
    assert card_threads.finish(5)


async def test_what_it_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        await CardThreads()(lambda: 1 // 0)
