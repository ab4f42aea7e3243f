# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards that a test can send APDUs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cards import PIN, Driver, card_with_pin, three_credentials
from vccid.keys.base import Credential


@pytest.fixture(autouse=True)
def cheap_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PIN's hash costs what a test can spare."""
    monkeypatch.setattr("vccid.card.pin.SCRYPT_COST", 16)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Drivers of cards with a PIN of their own; options are those of the card."""
    drivers: list[Driver] = []

    def make(*credentials: Credential, **options: object) -> Driver:
        held = credentials or three_credentials()
        drivers.append(Driver(card_with_pin(held, tmp_path, PIN, **options)))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.close()


@pytest.fixture
def driver(make: Callable[..., Driver]) -> Driver:
    return make()
