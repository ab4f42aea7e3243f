# SPDX-License-Identifier: LGPL-2.1-or-later
"""Users' names while what knows them is silent."""

from __future__ import annotations

import asyncio
import os
import pwd
import threading

import pytest

from vccid.links import user_names
from vccid.links.user_names import MOST_OPEN, UNKNOWN, Lookup


class Directory:
    """Answers once it is let."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.asked: list[int] = []

    def __call__(self, uid: int) -> str:
        self.asked.append(uid)
        self.there.wait(10)
        return f"user{uid}"


async def test_the_number_is_told_until_the_name_is_known() -> None:
    directory = Directory()
    names = Lookup(directory, str)
    assert names.get(7) == "7"
    assert await names.wait(7, 0.01) == "7"
    directory.there.set()
    assert await names.wait(7, 10) == "user7"
    assert names.get(7) == "user7"
    assert directory.asked == [7]


async def test_what_is_old_is_told_until_there_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory()
    directory.there.set()
    names = Lookup(directory, str)
    assert await names.wait(7, 10) == "user7"
    monkeypatch.setattr(user_names, "FRESH", -1.0)
    directory.there.clear()
    assert names.get(7) == "user7"
    assert names.get(7) == "user7"
    directory.there.set()
    while len(directory.asked) < 2:
        await asyncio.sleep(0)


async def test_strangers_cannot_ask_for_more_than_a_few_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_names, "MOST_KNOWN", 4)
    directory = Directory()
    names = Lookup(directory, str)
    assert [names.get(uid) for uid in range(100)] == [str(uid) for uid in range(100)]
    directory.there.set()
    assert await names.wait(MOST_OPEN - 1, 10) == f"user{MOST_OPEN - 1}"
    assert directory.asked == list(range(MOST_OPEN))
    directory.there.clear()
    told = [names.get(uid) for uid in range(MOST_OPEN)]
    assert sum(name.startswith("user") for name in told) == 4
    directory.there.set()


async def test_without_a_thread_it_goes_on_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(user_names, "_thread", user_names._Thread())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert await user_names.numbers.wait("root") == UNKNOWN
        assert await Lookup(Directory(), str).wait(7, 10) == "7"


def test_where_no_loop_waits_it_is_asked_at_once() -> None:
    assert user_names.names.get(os.geteuid()) == pwd.getpwuid(os.geteuid()).pw_name
    assert user_names.numbers.get("root") == 0
    assert user_names.numbers.get("no-such-user") is None
    assert user_names.names.get(54321) == "54321"
