# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a card for a while, and who is next."""

from __future__ import annotations

from functools import partial

from vccid.frontends.pcsc.lock import Lock


def test_it_has_a_depth() -> None:
    lock: Lock[str] = Lock()
    lock.begin("a")
    lock.begin("a")
    assert lock.bars("b") and not lock.bars("a")
    lock.end("b")
    lock.end("a")
    assert lock.bars("b")
    lock.end("a")
    assert not lock.bars("b")


def test_those_who_wait_have_it_in_order_of_arrival() -> None:
    lock: Lock[str] = Lock()
    had: list[str] = []
    lock.begin("a")
    for holder in ("b", "c", "d"):
        lock.queue(holder, partial(had.append, holder))
    lock.end("a")
    assert had == ["b"] and lock.owner == "b"
    lock.leave_queue("c")
    lock.end("b")
    assert had == ["b", "d"]


def test_one_who_was_sent_away_keeps_its_place() -> None:
    lock: Lock[str] = Lock()
    had: list[str] = []
    lock.begin("a")
    lock.queue("b", partial(had.append, "b"))
    lock.queue("c", partial(had.append, "c"))
    lock.send_away("b")
    lock.end("a")
    assert had == [] and lock.owner is None
    assert lock.is_behind("a") and not lock.is_behind("b")
    lock.queue("b", partial(had.append, "b"))
    assert had == ["b"]
    lock.end("b")
    assert had == ["b", "c"]


def test_one_who_does_not_come_back_is_forgotten() -> None:
    lock: Lock[str] = Lock()
    had: list[str] = []
    lock.begin("a")
    lock.queue("b", partial(had.append, "b"))
    lock.queue("c", partial(had.append, "c"))
    lock.send_away("b")
    lock.end("a")
    lock.forget("c")  # it waits, and is not away
    lock.forget("b")
    assert had == ["c"]


def test_who_begins_again_is_no_longer_away() -> None:
    lock: Lock[str] = Lock()
    lock.begin("a")
    lock.queue("b", lambda: None)
    lock.send_away("b")
    lock.end("a")
    lock.begin("b")
    lock.end("b")
    assert not lock.is_behind("a")


def test_exclusive_bars_all_others_and_is_let_go() -> None:
    lock: Lock[str] = Lock()
    had: list[str] = []
    lock.exclusive = "a"
    lock.begin("a")
    lock.queue("b", partial(had.append, "b"))
    lock.end("a")
    assert had == [] and lock.bars("b")
    lock.let_go("a")
    assert had == ["b"]


def test_the_cards_end_is_a_transactions_end() -> None:
    lock: Lock[str] = Lock()
    had: list[str] = []
    lock.begin("a")
    lock.begin("a")
    lock.queue("b", partial(had.append, "b"))
    lock.drop()
    assert had == ["b"]
    lock.end("a")
    assert lock.owner == "b"


def test_many_who_want_it_for_a_moment_do_not_nest() -> None:
    lock: Lock[int] = Lock()
    had: list[int] = []

    def take(number: int) -> None:
        had.append(number)
        lock.end(number)

    lock.begin(-1)
    for number in range(3000):
        lock.queue(number, partial(take, number))
    lock.end(-1)
    assert had == list(range(3000))
