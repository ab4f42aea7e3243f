# SPDX-License-Identifier: LGPL-2.1-or-later
"""libcacard's own scenarios, on our card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cac_scenarios import SCENARIOS, Card
from tests.cards import Driver, MemoryToken, card_with_token, three_credentials


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(card_with_token(three_credentials(), tmp_path, MemoryToken()))
    yield driver
    driver.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.__name__))
def test_scenario(driver: Driver, scenario: Callable[[Card], None]) -> None:
    scenario(driver)
