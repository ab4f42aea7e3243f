# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pool whose work is done or refused."""

from __future__ import annotations

import threading

import pytest

from vccid.process.threads import Threads


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_what_was_refused_is_never_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        go_on.wait(10)

    with Threads(4) as pool:
        pool.submit(long)
        begun.wait(10)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(OSError, match="no thread can be started"):
                pool.submit(done.append, "stale")
        go_on.set()
        assert pool.submit(lambda text: text, "next").result(10) == "next"
    assert done == []


def test_a_pool_that_is_over_says_so() -> None:
    pool = Threads(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(print)
