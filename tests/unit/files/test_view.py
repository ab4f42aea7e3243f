# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tree kept as the readers are: what is asked, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.files.daemon_says import card_info, reader
from vccid.files.inodes import ROOT
from vccid.files.link import Link, Refused
from vccid.files.tree import File
from vccid.files.view import View
from vccid.wire.varlink import Parameters


class Daemon:
    """A daemon's answers, and what it was asked."""

    def __init__(self) -> None:
        self.generation = 0
        self.readers = [reader()]
        self.cards: dict[str, Any] = {}
        self.asked: list[str] = []
        self.failing: str | None = None

    async def call(self, method: str, parameters: Parameters | None = None) -> Parameters:
        self.asked.append(method)
        await asyncio.sleep(0)
        if method == self.failing:
            raise TimeoutError
        if method == "Generation":
            return {"generation": self.generation}
        if method == "ListReaders":
            return {"readers": self.readers}
        name = (parameters or {})["reader"]
        if name not in self.cards:
            raise Refused("no card")
        return cast(Parameters, self.cards[name])

    def change(self, *readers: Parameters) -> None:
        self.generation += 1
        self.readers = list(readers)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def view(daemon: Daemon) -> View:
    return View(cast(Link, daemon), Path("/nowhere"))


async def names(view: View, number: int = ROOT) -> list[str]:
    return list((await view.directory(number)).children)


async def test_nothing_changed_so_nothing_else_is_asked(view: View, daemon: Daemon) -> None:
    assert await names(view) == ["vccid0"]
    daemon.asked.clear()
    assert await names(view) == ["vccid0"]
    assert daemon.asked == ["Generation"]


async def test_a_card_is_asked_about_once_somebody_looks(view: View, daemon: Daemon) -> None:
    daemon.cards = {"vccid0": card_info(["a"])}
    daemon.readers = [reader(card=True, generation=1), reader("other", card=True)]
    root = await view.directory(ROOT)
    assert "CardInfo" not in daemon.asked
    inside = root.children["vccid0"].number
    assert await names(view, inside) == ["state", "events", "atr", "card"]
    assert await names(view, inside) == ["state", "events", "atr", "card"]
    assert daemon.asked.count("CardInfo") == 1


async def test_a_change_is_seen_at_the_next_look(view: View, daemon: Daemon) -> None:
    inside = (await view.directory(ROOT)).children["vccid0"].number
    assert await names(view, inside) == ["state", "events"]
    daemon.cards = {"vccid0": card_info(["a"])}
    daemon.change(reader(card=True, generation=1))
    card = (await view.directory(inside)).children["card"]
    daemon.change(reader(card=True, generation=3))
    again = (await view.directory(inside)).children["card"]
    assert again is not card and not card.linked
    daemon.change()
    with pytest.raises(KeyError):
        await view.directory(inside)
    assert await names(view) == []


async def test_a_reader_that_was_removed_and_added_again(view: View, daemon: Daemon) -> None:
    daemon.cards = {"vccid0": card_info(["a"])}
    daemon.readers = [reader(card=True, generation=1)]
    inside = (await view.directory(ROOT)).children["vccid0"].number
    card = (await view.directory(inside)).children["card"]
    # Its generation is the same, the time is not.
    daemon.change({**reader(card=True, generation=1), "changed": 9.0})
    assert (await view.directory(inside)).children["card"] is not card


async def test_a_card_that_left_meanwhile(view: View, daemon: Daemon) -> None:
    daemon.readers = [reader(card=True)]
    inside = (await view.directory(ROOT)).children["vccid0"].number
    assert await names(view, inside) == ["state", "events"]


async def test_what_was_not_answered_is_asked_again(view: View, daemon: Daemon) -> None:
    inside = (await view.directory(ROOT)).children["vccid0"].number
    await view.directory(inside)
    daemon.cards = {"vccid0": card_info(["a"])}
    daemon.change(reader(card=True, generation=1))
    daemon.failing = "CardInfo"
    with pytest.raises(TimeoutError):
        await view.directory(inside)
    daemon.failing = None
    assert "card" in await names(view, inside)


async def test_looks_that_come_together_ask_together(view: View, daemon: Daemon) -> None:
    await view.refresh()
    daemon.asked.clear()
    await asyncio.gather(*(view.refresh() for _ in range(50)))
    # The first asks; the rest came after that question began, and share the second.
    assert daemon.asked == ["Generation", "Generation"]


async def test_pin_tries_are_asked_for(view: View, daemon: Daemon) -> None:
    daemon.cards = {"vccid0": card_info(["a"])}
    daemon.readers = [reader(card=True)]
    inside = (await view.directory(ROOT)).children["vccid0"].number
    card = await view.directory((await view.directory(inside)).children["card"].number)
    old = await view.child(card, "pin-tries")
    assert await view.child(card, "pin-tries") is old
    daemon.cards = {"vccid0": card_info(["a"], tries=2)}
    new = await view.child(card, "pin-tries")
    assert isinstance(new.node, File) and new.node.content == b"2\n"
    assert not old.linked
    with pytest.raises(KeyError):
        await view.child(card, "nothing")


async def test_a_reader_named_like_a_file_of_ours(view: View, daemon: Daemon) -> None:
    daemon.readers = [reader("pin-tries"), reader("events")]
    root = await view.directory(ROOT)
    daemon.asked.clear()
    assert (await view.child(root, "pin-tries")).number != (await view.child(root, "events")).number
    assert daemon.asked == []


async def test_a_file_is_no_directory(view: View) -> None:
    inside = (await view.directory(ROOT)).children["vccid0"].number
    state = (await view.directory(inside)).children["state"].number
    with pytest.raises(NotADirectoryError):
        await view.directory(state)
