# SPDX-License-Identifier: LGPL-2.1-or-later
"""PIV cards that a test can send APDUs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.card.piv.host import Host, credentials, piv_card


@pytest.fixture
def make() -> Iterator[Callable[..., Host]]:
    """Hosts of cards; options are those of `piv_card`."""
    hosts: list[Host] = []

    def make(*given: object, **options: object) -> Host:
        hosts.append(Host(piv_card(*given, **options)))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def host(make: Callable[..., Host]) -> Host:
    """Of a card with five certificates."""
    return make(credentials())


@pytest.fixture
def blank(make: Callable[..., Host]) -> Host:
    """Of an empty card."""
    return make()
