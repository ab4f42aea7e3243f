# SPDX-License-Identifier: LGPL-2.1-or-later
"""What makes cards is loaded once, however many cards are wanted at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from vccid.backends import certificates
from vccid.errors import StateError
from vccid.readers.card_maker import CardMaker
from vccid.readers.readers_json import MadeCard
from vccid.settings.directories import Directories

WANTED = MadeCard(("id.pem",), "sql:/nowhere", "cac")


class SlowBackend:
    """Takes its time to be made, and tells who made a card."""

    made: list[SlowBackend]
    fails = 0

    def __init__(self, *_: Any) -> None:
        time.sleep(0.1)
        if SlowBackend.fails:
            SlowBackend.fails -= 1
            raise StateError("the folder cannot be made")
        self.made.append(self)

    async def card(self, *_: Any, **__: Any) -> tuple[Any, list[str]]:
        return self, []


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CardMaker:
    monkeypatch.setattr(certificates, "CertificateBackend", SlowBackend)
    monkeypatch.setattr(SlowBackend, "made", [], raising=False)
    return CardMaker(Directories(tmp_path, tmp_path, tmp_path, None))


async def test_cards_wanted_at_once_have_one_backend(maker: CardMaker) -> None:
    """Two would each know its own half of the wrong PINs."""
    cards = await asyncio.gather(*(maker.make(WANTED, None, None, 1) for _ in range(8)))
    assert len(SlowBackend.made) == 1
    assert {id(card) for card, _ in cards} == set(map(id, SlowBackend.made))


async def test_who_waited_tries_again_where_loading_failed(
    maker: CardMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlowBackend, "fails", 1)
    first, second = await asyncio.gather(
        *(maker.make(WANTED, None, None, 1) for _ in range(2)), return_exceptions=True
    )
    assert isinstance(first, StateError) and not isinstance(second, BaseException)


async def test_who_gives_up_leaves_no_second_one(maker: CardMaker) -> None:
    given_up = asyncio.ensure_future(maker.make(WANTED, None, None, 1))
    await asyncio.sleep(0.01)
    given_up.cancel()
    cards = await asyncio.gather(*(maker.make(WANTED, None, None, 1) for _ in range(2)))
    assert len({card for card, _ in cards}) == 1
