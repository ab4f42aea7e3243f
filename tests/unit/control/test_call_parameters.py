# SPDX-License-Identifier: LGPL-2.1-or-later
"""A call's parameters, good and bad."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.control.call_parameters import LONGEST_TEXT, LONGEST_WAIT, BadParameter, Taker, Unfit


def test_what_is_taken() -> None:
    given = Taker({"a": "x y", "b": ["1", "2"], "c": "cGlu", "d": 3, "e": 0.5, "f": None})
    assert given.text("a") == "x y"
    assert given.texts("b") == ("1", "2")
    assert given.secret("c") == b"pin"
    assert given.seconds("d") == 3.0
    assert given.seconds("e") == 0.5
    given.done()


def test_what_is_not_there() -> None:
    given = Taker({"a": None})
    assert given.text("a") is given.texts("b") is given.secret("c") is given.seconds("d") is None
    given.done()


@pytest.mark.parametrize(
    ("take", "value"),
    [
        *(("text", value) for value in (1, True, ["a"], "a\n", "\0", "\ud800", "\x1b[2J",
                                        "x" * (LONGEST_TEXT + 1))),
        *(("texts", value) for value in ("a", [1], [None], ["\n"], {})),
        *(("secret", value) for value in (1, "c", "c GlN", "ä", ["cGlu"])),
        *(("seconds", value) for value in ("1", True, -1, LONGEST_WAIT + 1, float("nan"),
                                           float("inf"), 10**400)),
    ],
)  # fmt: skip
def test_what_is_refused(take: str, value: Any) -> None:
    with pytest.raises(BadParameter) as caught:
        getattr(Taker({"it": value}), take)("it")
    assert caught.value.name == "it"
    assert caught.value.__cause__ is None, "the chain would carry the value"


def test_what_nobody_asked_for_is_refused() -> None:
    with pytest.raises(BadParameter, match="more"):
        Taker({"more": 1}).done()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_anything_is_taken_or_refused(value: Any) -> None:
    for take in ("text", "texts", "secret", "seconds"):
        try:
            getattr(Taker({"it": value}), take)("it")
        except BadParameter:
            continue


@pytest.mark.parametrize(
    ("take", "value", "message"),
    [
        ("text", "caf\udce9", r"it: 'caf\udce9' has bytes that are no UTF-8 in its name"),
        ("texts", ["a\nb"], r"it: 'a\nb' has a line break in its name"),
        ("text", "x" * 8193, "it: 8193 characters"),
        ("seconds", 3601, "it: no time to wait"),
    ],
)
def test_what_is_of_its_type_and_of_no_use_is_told(take: str, value: Any, message: str) -> None:
    with pytest.raises(Unfit) as caught:
        getattr(Taker({"it": value}), take)("it")
    assert caught.value.message == message
    assert caught.value.hint


def test_blanks_and_joiners_are_text() -> None:
    name = "no\u00a0break \U0001f469\u200d\U0001f4bb.pem"
    assert Taker({"it": name}).text("it") == name
