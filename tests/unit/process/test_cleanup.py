# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clean-ups go on past what fails."""

from __future__ import annotations

import asyncio

import pytest

from vccid.process.cleanup import take_all, take_all_async


def test_every_step_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[str] = []

    def fails() -> None:
        taken.append("fails")
        raise AttributeError("no transport")

    take_all(lambda: taken.append("first"), fails, lambda: taken.append("last"))
    assert taken == ["first", "fails", "last"]
    assert "fails failed; what is left to clean up goes on" in caplog.text
    assert "no transport" in caplog.text


async def test_so_is_every_one_that_is_awaited(caplog: pytest.LogCaptureFixture) -> None:
    taken: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("gone")

    async def last() -> None:
        taken.append("last")

    await take_all_async(fails, last, lambda: taken.append("not awaited"))
    assert taken == ["last", "not awaited"]
    assert "fails failed" in caplog.text


async def test_who_is_cancelled_cleans_up_first() -> None:
    begun, taken = asyncio.Event(), []

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(take_all_async(waits, lambda: taken.append("last")))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert taken == ["last"]
