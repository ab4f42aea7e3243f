# SPDX-License-Identifier: LGPL-2.1-or-later
"""One reader's attachments: what users, settings, restarts and other ends make of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from vccid.errors import ConfigError, ReaderError
from vccid.readers.attachments import Attachment
from vccid.readers.reader_attachments import AttachmentStatus, ReaderAttachments
from vccid.settings.config import ReaderSettings

TTY = Attachment("tty", "/dev/ttyVCCID0")
RELEASED = AttachmentStatus(
    TTY, False, "the other end let go of it, and it stays so: attach it anew"
)
GONE = ConfigError("the place is gone", "find another")


class Place:
    """Where every frontend goes.

    Attributes:
        lost: what each frontend was given to call when its other end lets go.
        error: what a start comes to.
        open: while it is not set, starts wait.
    """

    status = "attached"

    def __init__(self) -> None:
        self.lost: list[Callable[[], None]] = []
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    def make(self, attachment: Attachment, lost: Callable[[], None]) -> Place:
        self.lost.append(lost)
        return self

    async def start(self) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error

    async def stop(self) -> None:
        pass


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def attachments(place: Place) -> ReaderAttachments:
    return ReaderAttachments("office", ReaderSettings(ifd=False), place.make)


async def test_what_could_not_be_attached_leaves_nothing(
    attachments: ReaderAttachments, place: Place
) -> None:
    place.error = GONE
    with pytest.raises(ConfigError, match="the place is gone"):
        await attachments.attach(TTY)
    assert attachments.statuses == []
    assert attachments.kept == attachments.taken == set()


async def test_its_place_is_taken_while_it_comes_and_kept_once_it_is_there(
    attachments: ReaderAttachments, place: Place
) -> None:
    place.open.clear()
    attaching = asyncio.create_task(attachments.attach(TTY))
    await asyncio.sleep(0)
    assert attachments.statuses == []
    assert (attachments.kept, attachments.taken) == (frozenset(), frozenset([TTY]))
    place.open.set()
    assert await attaching == "attached"
    assert attachments.statuses == [AttachmentStatus(TTY, True, "attached")]
    assert attachments.kept == attachments.taken == {TTY}


async def test_an_end_that_lets_go_is_told_once_and_not_kept(
    attachments: ReaderAttachments, place: Place
) -> None:
    told: list[str] = []
    attachments.lost = lambda: told.append("lost")
    await attachments.attach(TTY)
    place.lost[0]()
    place.lost[0]()
    assert told == ["lost"]
    assert attachments.statuses == [RELEASED]
    assert attachments.kept == attachments.taken == set()


async def test_one_let_go_stays_so_where_it_cannot_be_attached_anew(
    attachments: ReaderAttachments, place: Place
) -> None:
    await attachments.attach(TTY)
    place.lost[0]()
    place.error, before = GONE, attachments.statuses
    with pytest.raises(ConfigError):
        await attachments.attach(TTY)
    assert attachments.statuses == before == [RELEASED]
    place.error = None
    await attachments.attach(TTY)
    assert attachments.statuses == [AttachmentStatus(TTY, True, "attached")]


async def test_one_let_go_can_be_forgotten(attachments: ReaderAttachments, place: Place) -> None:
    await attachments.attach(TTY)
    place.lost[0]()
    await attachments.detach(TTY)
    assert attachments.statuses == []
    with pytest.raises(ReaderError, match="is not attached to tty"):
        await attachments.detach(TTY)


async def test_a_frontend_that_was_stopped_lets_go_of_no_later_one(
    attachments: ReaderAttachments, place: Place
) -> None:
    await attachments.attach(TTY)
    await attachments.detach(TTY)
    await attachments.attach(TTY)
    place.lost[0]()
    assert attachments.statuses == [AttachmentStatus(TTY, True, "attached")]


async def test_what_a_restart_could_not_attach_stays_due_after_a_try_of_a_user_s(
    attachments: ReaderAttachments, place: Place
) -> None:
    attachments.recall([TTY])
    assert (attachments.statuses, attachments.kept) == ([], frozenset([TTY]))
    place.error = GONE
    assert await attachments.reattach() == {TTY: GONE}
    failed = [AttachmentStatus(TTY, False, "the place is gone")]
    assert (attachments.statuses, attachments.kept) == (failed, frozenset([TTY]))
    place.error = ConfigError("it is worse now", "")
    with pytest.raises(ConfigError, match="worse"):
        await attachments.attach(TTY)
    assert (attachments.statuses, attachments.kept) == (failed, frozenset([TTY]))
    place.error = None
    await attachments.attach(TTY)
    assert attachments.statuses == [AttachmentStatus(TTY, True, "attached")]
