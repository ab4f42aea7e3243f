# SPDX-License-Identifier: LGPL-2.1-or-later
"""What was put into a reader: made, followed, due after a restart, failed."""

from __future__ import annotations

from typing import cast

import pytest

from tests.unit.fakes import FakeCard
from vccid.backends.pcsc import Follower
from vccid.errors import KeySourceError, ReaderError
from vccid.reader import Reader
from vccid.readers.content import Content
from vccid.readers.readers_json import MadeCard, RealCard

MADE = MadeCard(("cert1",), "sql:/nowhere", "cac")
REAL = RealCard("Reader 0", emulated=False)
GONE = KeySourceError("the token is gone", "")


class Following:
    stopped = 0

    async def stop(self) -> None:
        self.stopped += 1


def put_in(reader: Reader, content: Content) -> None:
    reader.insert(FakeCard())
    content.made(MADE)


async def test_what_was_removed_is_what_was_in_last() -> None:
    reader = Reader("office")
    content = Content(reader)
    put_in(reader, content)
    await content.remove()
    assert (content.source, content.last_source, reader.card) == (None, MADE, None)
    with pytest.raises(ReaderError, match="holds no card"):
        await content.remove()


async def test_what_failed_is_forgotten_and_whatever_is_in_stays_out_of_it() -> None:
    reader = Reader("office")
    content = Content(reader)
    content.recall(MADE)
    assert content.is_awaited
    content.failed(GONE)
    assert (content.problem, content.is_awaited) == (GONE, True)
    await content.remove()
    assert (content.source, content.problem, content.is_awaited) == (None, None, False)


async def test_a_far_card_that_came_after_a_failure_is_removed_too() -> None:
    reader = Reader("far0")
    content = Content(reader)
    put_in(reader, content)
    content.failed(GONE)
    reader.remove()
    reader.insert(FakeCard())
    await content.remove()
    assert (reader.card, content.problem) == (None, None)


async def test_a_real_card_is_followed_until_it_is_removed() -> None:
    content, following = Content(Reader("office")), Following()
    content.followed(REAL, cast(Follower, following))
    assert content.is_followed
    await content.remove()
    assert (content.is_followed, content.follower, following.stopped) == (False, None, 1)


async def test_what_is_in_at_the_end_is_due_at_the_next_start() -> None:
    reader = Reader("office")
    content, following = Content(reader), Following()
    content.followed(REAL, cast(Follower, following))
    await content.close()
    await content.close()
    assert (content.source, content.is_awaited, following.stopped) == (REAL, True, 1)
    other = Content(reader)
    put_in(reader, other)
    await other.close()
    assert (other.source, other.is_awaited, reader.card) == (MADE, True, None)
