# SPDX-License-Identifier: LGPL-2.1-or-later
"""All that one reader is attached to, or is to be: each with its frontend while it has one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from vccid.errors import ReaderError, VccidError, unexpected
from vccid.process.cleanup import take_all_async
from vccid.readers.attachment_states import ATTACHMENT, KEPT, PLACE_IS_FREE, Event, State
from vccid.readers.attachments import Attachment, Frontend
from vccid.settings.config import ReaderSettings

log = logging.getLogger(__name__)

_IFD: Final = Attachment("ifd")
_PCSC: Final = Attachment("pcsc")
_RELEASED: Final = "the other end let go of it, and it stays so: attach it anew"


@dataclass(frozen=True, slots=True)
class AttachmentStatus:
    """How one attachment stands, for people.

    Attributes:
        up: whether its frontend runs.
        status: in a few words; why not, where it does not run.
    """

    attachment: Attachment
    up: bool
    status: str


class _Attached:
    """One attachment's state, and what goes with it.

    Attributes:
        frontend: what runs while it is up.
        error: why it failed.
    """

    def __init__(self) -> None:
        self.state = ATTACHMENT.initial
        self.frontend: Frontend | None = None
        self.error: VccidError | None = None

    def move(self, event: Event) -> None:
        self.state = ATTACHMENT.after(self.state, event)

    @property
    def status(self) -> str:
        """In a few words, or "" where there is nothing to tell yet."""
        if self.state is State.UP and self.frontend is not None:
            return self.frontend.status
        if self.state is State.FAILED and self.error is not None:
            return self.error.message
        return _RELEASED if self.state in (State.RELEASED, State.RETAKEN) else ""


class ReaderAttachments:
    """The attachments of one reader; whoever changes them holds `lock`.

    Attributes:
        lock: held while a frontend comes or goes; no card, however slow, keeps it.
        lost: called when the other end of an attachment let go by itself.
    """

    def __init__(
        self,
        reader: str,
        settings: ReaderSettings,
        make: Callable[[Attachment, Callable[[], None]], Frontend],
    ) -> None:
        """
        Args:
            reader: its name.
            make: makes a frontend; that calls what it is given when its other end lets go.
        """
        self.lock = asyncio.Lock()
        self.lost: Callable[[], None] = lambda: None
        self._reader = reader
        self._settings = settings
        self._make = make
        self._all: dict[Attachment, _Attached] = {}

    @property
    def statuses(self) -> list[AttachmentStatus]:
        """What it is attached to, and what it should be."""
        return [
            AttachmentStatus(key, attached.state is State.UP, attached.status)
            for key, attached in sorted(self._all.items(), key=lambda item: item[0])
            if attached.status or attached.state is State.UP
        ]

    @property
    def kept(self) -> frozenset[Attachment]:
        """What a restart brings back, beside what the settings want."""
        from_settings = {_IFD, _PCSC} if self._settings.pcsc else {_IFD}
        kept = (key for key, attached in self._all.items() if attached.state in KEPT)
        return frozenset(kept) - from_settings

    @property
    def taken(self) -> frozenset[Attachment]:
        """What no other reader may be attached to."""
        return frozenset(
            key for key, attached in self._all.items() if attached.state not in PLACE_IS_FREE
        )

    async def apply(self, settings: ReaderSettings) -> None:
        """Be as the settings want it.

        Raises:
            ConfigError: pcscd's driver cannot be given its socket.
        """
        before, self._settings = self._settings, settings
        if settings.pin_pad != before.pin_pad:
            # Programs ask a reader for its features when it comes, so it comes anew.
            await self.begin_anew("ifd", "pcsc")
        await self._keep_to_settings(_IFD, before.ifd, settings.ifd)
        await self._keep_to_settings(_PCSC, before.pcsc, settings.pcsc)

    async def begin_anew(self, *kinds: str) -> None:
        """To hosts of these kinds the reader goes and comes.

        Raises:
            ConfigError, NotPermitted, ReaderError: as `attach`.
        """
        for attachment in [key for key in self._all if key.kind in kinds and self._is_up(key)]:
            await self._stop(attachment)
            await self._start(attachment)

    async def _keep_to_settings(self, attachment: Attachment, before: bool, wanted: bool) -> None:
        if wanted and not self._is_up(attachment):
            await self._start(attachment)
        elif before and not wanted and self._is_up(attachment):
            await self._stop(attachment)

    async def attach(self, attachment: Attachment) -> str:
        """Show the reader to one more kind of host; returns how that stands.

        Raises:
            ReaderError: it is attached so already, or the place cannot be had.
            ConfigError, NotPermitted: as the frontend says.
        """
        if self._is_up(attachment):
            raise ReaderError(
                f"reader {self._reader} is attached to {attachment} already",
                f"to begin anew, first: vccidctl detach {attachment} --reader {self._reader}",
            )
        return (await self._start(attachment)).status

    def recall(self, attachments: Iterable[Attachment]) -> None:
        """What it was attached to before a restart is to be again."""
        for attachment in attachments:
            self._all.setdefault(attachment, _Attached()).move(Event.RECALLED)

    async def reattach(self) -> dict[Attachment, VccidError]:
        """Attach as before a restart; returns what failed, which the next restart tries again."""
        due = {key: attached for key, attached in self._all.items() if attached.state is State.DUE}
        failed = {}
        for attachment, attached in due.items():
            try:
                await self._start(attachment)
            except VccidError as error:
                failed[attachment] = error
            except Exception as error:
                log.exception("%s failed", attachment, extra={"reader": self._reader})
                failed[attachment] = unexpected(error)
            if attachment in failed:
                attached.move(Event.GIVEN_UP)
                attached.error = failed[attachment]
        return failed

    async def detach(self, attachment: Attachment) -> None:
        """Show the reader there no longer.

        Raises:
            ReaderError: it is not attached so.
        """
        if attachment not in self._all:
            raise ReaderError(
                f"reader {self._reader} is not attached to {attachment}", "vccidctl status"
            )
        await self._stop(attachment)

    async def close(self) -> None:
        """Let every host go. What did not come back after a restart is still to."""
        up = [key for key in self._all if self._is_up(key)]
        frontends = [self._removed(attachment) for attachment in up]
        await take_all_async(*(frontend.stop for frontend in frontends if frontend is not None))

    def _is_up(self, attachment: Attachment) -> bool:
        attached = self._all.get(attachment)
        return attached is not None and attached.state is State.UP

    async def _stop(self, attachment: Attachment) -> None:
        """It is detached also where its frontend could not end as it should."""
        frontend = self._removed(attachment)
        if frontend is not None:
            await take_all_async(frontend.stop)

    def _removed(self, attachment: Attachment) -> Frontend | None:
        """The frontend of one that is to be none."""
        attached = self._all.pop(attachment)
        attached.move(Event.STOP)
        return attached.frontend

    async def _start(self, attachment: Attachment) -> Frontend:
        attached = self._all.setdefault(attachment, _Attached())
        attached.move(Event.START)
        try:
            frontend = self._make(attachment, lambda: self._let_go(attached))
            await self._begin(attachment, frontend)
        except BaseException:
            attached.move(Event.NOT_STARTED)
            if attached.state is State.ABSENT:
                del self._all[attachment]
            raise
        attached.move(Event.STARTED)
        attached.frontend, attached.error = frontend, None
        return frontend

    async def _begin(self, attachment: Attachment, frontend: Frontend) -> None:
        try:
            await frontend.start()
        except OSError as error:  # what no frontend expects: too few descriptors, no memory
            raise ReaderError(
                f"reader {self._reader} cannot be attached to {attachment}: "
                f"{error.strerror or error}",
                "the system may be short of something: see ulimit, df and free",
            ) from error

    def _let_go(self, attached: _Attached) -> None:
        """Its other end went by itself; while it starts or stops, that is told otherwise."""
        if attached.state is State.UP:
            attached.move(Event.LOST)
            attached.frontend = None
            self.lost()
