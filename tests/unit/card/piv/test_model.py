# SPDX-License-Identifier: LGPL-2.1-or-later
"""Conversations of any kind, held against a second reading of the standard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.card.piv.host import Host, piv_card
from tests.unit.card.piv.model import Model
from tests.unit.card.piv.moves import model_of, next_move
from tests.unit.card.piv.requirements import meets


class Drawn:
    """Chance from hypothesis, so that it finds the shortest conversation that fails."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def below(self, count: int) -> int:
        return self._data.draw(st.integers(0, count - 1))

    def some(self, most: int) -> bytes:
        return self._data.draw(st.binary(max_size=most))


def talk(host: Host, model: Model, raws: list[bytes]) -> None:
    for raw in raws:
        answer = host.raw(raw)
        try:
            model.judge(raw, answer)
        except AssertionError as error:
            raise AssertionError(f"> {raw.hex()}\n< {answer.hex()}\n{error}") from error


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    made: list[Host] = []
    yield made
    for host in made:
        host.close()


@meets("V10", "V12", "C5", "R4", "A7", "U1", "G1", "D27")
@given(data=st.data())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_conversation(hosts: list[Host], data: st.DataObject) -> None:
    host = Host(piv_card())
    hosts.append(host)
    model, dice = model_of(host), Drawn(data)
    for _ in range(data.draw(st.integers(1, 40))):
        if dice.below(30) == 0:
            host.reset()
            model.reset()
        talk(host, model, next_move(model, dice))
