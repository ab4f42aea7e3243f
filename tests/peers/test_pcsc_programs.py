# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs as Debian ships them find no difference between pcscd and the daemon's own door."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.desk import Desk
from tests.peers.pcsc_comparison import Both, run
from tests.peers.pcsc_programs import PROGRAMS


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with Both(tmp_path_factory.mktemp("both")) as running:
        yield running


@pytest.fixture(scope="module")
def desks(both: Both) -> tuple[Desk, Desk]:
    return both.behind_pcscd(), both.at_the_door()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_sees_no_difference(name: str, desks: tuple[Desk, Desk]) -> None:
    behind, door = desks
    expected = run(behind, PROGRAMS[name])
    assert run(door, PROGRAMS[name]) == expected
    assert "vccid" in expected.said or expected.status == 0
