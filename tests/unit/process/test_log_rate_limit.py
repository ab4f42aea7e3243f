# SPDX-License-Identifier: LGPL-2.1-or-later
"""However much a stranger complains of, the log stays small."""

from __future__ import annotations

import logging

import pytest

from vccid.process.log_rate_limit import BURST, MOST_PEERS, PAUSE, LogRateLimit

log = logging.getLogger(__name__)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_has_its_share_and_what_was_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log_limit = LogRateLimit(log, clock)
    for _ in range(BURST + 30):
        log_limit.tell(1000, logging.WARNING, "refused %s", "it", peer="pid 1")
    log_limit.tell(1001, logging.WARNING, "another's")
    assert caplog.messages == ["refused it"] * BURST + ["another's"]
    assert caplog.records[0].__dict__["peer"] == "pid 1"
    clock.now += PAUSE
    log_limit.tell(1000, logging.WARNING, "refused %s", "it")
    log_limit.tell(1000, logging.WARNING, "refused %s", "it")
    assert caplog.messages[-1] == "refused it (30 lines like this were left out before)"
    assert len(caplog.messages) == BURST + 2


def test_more_peers_than_are_counted_share_one_count(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log_limit = LogRateLimit(log, clock)
    for who in range(10 * MOST_PEERS):
        log_limit.tell(who, logging.WARNING, "refused")
    assert len(caplog.messages) == MOST_PEERS + BURST
    clock.now += BURST * PAUSE
    log_limit.tell("later", logging.WARNING, "counted for itself")
    assert caplog.messages[-1] == "counted for itself"
