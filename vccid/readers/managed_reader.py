# SPDX-License-Identifier: LGPL-2.1-or-later
"""One reader with all that belongs to it: its frontends, and what was put into it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vccid.card.card import Card
from vccid.card.touch import TouchMode
from vccid.errors import ReaderError, VccidError, unexpected
from vccid.process.cleanup import take_all_async
from vccid.reader import Event, Reader
from vccid.readers.attachments import Attachment, Frontend
from vccid.readers.frontend_maker import FrontendMaker
from vccid.readers.readers_json import CardSource, Entry
from vccid.settings.config import ReaderSettings, slot_names

if TYPE_CHECKING:
    from vccid.backends.pcsc import Follower
    from vccid.frontends.pin_pad import PinPad

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


class ManagedReader:
    """A reader and its surroundings.

    Attributes:
        reader: the slot.
        declared: in the settings, not added at run time.
        transient: made for a far card, and not kept.
        removed: it is no reader of the daemon any more.
        settings: what it is to be.
        source: what is in, or would be but for `problem`; kept over restarts.
        last_source: what was in last, for an insert that names nothing.
        given_label: what a request called the reader, "" to leave that to the settings.
        given_touch: who a request had touch the card that is in, "" to leave that to the settings.
        follower: what puts a real card in while it is there, or None.
        problem: why the card that is wanted is not in, or None.
        changed: when a card last came or went, or the reader came; seconds since 1970.
        card_lock: held while a card goes in or out.
        frontends_lock: held while a frontend comes or goes; no card, however slow, keeps it.
        pending: what it was attached to before a restart, and is not yet again.
        pin_pad: what PINs are typed on; None where it never had one. It outlives the setting,
            for the hosts that were shown it.
        lost: called when the other end of an attachment let go by itself.
    """

    def __init__(
        self,
        name: str,
        settings: ReaderSettings,
        *,
        declared: bool,
        transient: bool = False,
        frontends: FrontendMaker,
        publish: Callable[[Event], None],
        find: Callable[[str], ManagedReader | None],
    ) -> None:
        """`find` has the reader of a name: its USB device's slots, itself too."""
        self.reader = Reader(name, publish)
        self.declared = declared
        self.transient = transient
        self.removed = False
        self.settings = settings
        self.source: CardSource | None = None
        self.last_source: CardSource | None = None
        self.given_label = ""
        self.given_touch = ""
        self._card_label = ""
        self.follower: Follower | None = None
        self.problem: VccidError | None = None
        self.changed = time.time()
        self.card_lock = asyncio.Lock()
        self.frontends_lock = asyncio.Lock()
        self.lost: Callable[[], None] = lambda: None
        self.pending: tuple[Attachment, ...] = ()
        self.pin_pad: PinPad | None = None
        self._maker = frontends
        self._find = find
        self._frontends: dict[Attachment, Frontend] = {}
        self._failed: dict[Attachment, VccidError] = {}
        self._released: set[Attachment] = set()

    @property
    def name(self) -> str:
        """The reader's name."""
        return self.reader.name

    @property
    def attachment_statuses(self) -> list[AttachmentStatus]:
        """What it is attached to, and what it should be."""
        up = [
            AttachmentStatus(key, True, frontend.status)
            for key, frontend in self._frontends.items()
        ]
        down = [AttachmentStatus(key, False, error.message) for key, error in self._failed.items()]
        gone = [AttachmentStatus(key, False, _RELEASED) for key in self._released]
        return sorted(up + down + gone, key=lambda attached: attached.attachment)

    @property
    def attachments(self) -> frozenset[Attachment]:
        """What it is attached to, or is to be again."""
        from_settings = {_IFD, _PCSC} if self.settings.pcsc else {_IFD}
        return frozenset((*self._frontends, *self._failed, *self.pending)) - from_settings

    @property
    def entry(self) -> Entry | None:
        """What is to be kept of it, or None where the settings say everything."""
        attachments = tuple(sorted(self.attachments))
        told = self.source is not None or attachments or self.given_label
        if self.transient or (self.declared and not told):
            return None
        return Entry(not self.declared, self.source, attachments, self.given_label)

    def check_there(self) -> None:
        """To be asked when a lock has been waited for.

        Raises:
            ReaderError: it was removed meanwhile.
        """
        if self.removed:
            raise ReaderError(f"reader {self.name} was removed", "vccidctl reader list")

    async def apply(self, settings: ReaderSettings) -> None:
        """Be as the settings want it.

        Raises:
            ConfigError: pcscd's driver cannot be given its socket.
        """
        before, self.settings = self.settings, settings
        await self._relabel()
        if self.reader.card is not None:
            self.apply_touch(self.reader.card)
        if settings.pin_pad and self.pin_pad is None:
            from vccid.frontends.pin_pad import PinPad

            self.pin_pad = PinPad()
        if settings.pin_pad != before.pin_pad:
            # Programs ask a reader for its features when it comes, so it comes anew.
            for attachment in [key for key in self._frontends if key.kind in ("ifd", "pcsc")]:
                await self._stop(attachment)
                await self._start(attachment)
        await self._keep_to_settings(_IFD, before.ifd, settings.ifd)
        await self._keep_to_settings(_PCSC, before.pcsc, settings.pcsc)

    async def _keep_to_settings(self, attachment: Attachment, before: bool, wanted: bool) -> None:
        if wanted and attachment not in self._frontends:
            await self._start(attachment)
        elif before and not wanted and attachment in self._frontends:
            await self._stop(attachment)

    async def relabel(self, given: str | None, of_card: str) -> None:
        """Be seen by another name: to programs without pcscd the reader comes anew.

        Args:
            given: the name; None for the one it has been given before.
            of_card: that which goes with the card, where none was given.
        """
        async with self.frontends_lock:
            self.given_label = self.given_label if given is None else given
            self._card_label = of_card
            await self._relabel()

    async def _relabel(self) -> None:
        wanted = (self.given_label, self._card_label, self.settings.reader_name)
        label = next(filter(None, wanted), f"vccid {self.name}")
        if label == self.reader.label:
            return
        self.reader.label = label
        for attachment in [key for key in self._frontends if key.kind == "pcsc"]:
            await self._stop(attachment)
            await self._start(attachment)

    def apply_touch(self, card: Card) -> None:
        """Have a card touched as a request or else the settings say."""
        touch = getattr(card, "touch", None)
        if touch is not None:
            touch.mode = TouchMode(self.given_touch or self.settings.touch)

    async def attach(self, attachment: Attachment) -> str:
        """Show it to one more kind of host; returns how that stands.

        Raises:
            ReaderError: it is attached so already, or the place cannot be had.
            ConfigError, NotPermitted: as the frontend says.
        """
        if attachment in self._frontends:
            raise ReaderError(
                f"reader {self.name} is attached to {attachment} already",
                f"to begin anew, first: vccidctl detach {attachment} --reader {self.name}",
            )
        await self._start(attachment)
        return self._frontends[attachment].status

    async def reattach(self) -> dict[Attachment, VccidError]:
        """Attach as before a restart; returns what failed, which is kept to be tried again."""
        for attachment in self.pending:
            if attachment in self._frontends:
                continue  # somebody asked for it before its turn came
            try:
                await self._start(attachment)
            except VccidError as error:
                self._failed[attachment] = error
            except Exception as error:
                log.exception("%s failed", attachment, extra={"reader": self.name})
                self._failed[attachment] = unexpected(error)
        self.pending = ()
        return dict(self._failed)

    async def detach(self, attachment: Attachment) -> None:
        """Show it there no longer.

        Raises:
            ReaderError: it is not attached so.
        """
        known = attachment in {*self.attachments, *self._released}
        self.pending = tuple(other for other in self.pending if other != attachment)
        self._failed.pop(attachment, None)
        self._released.discard(attachment)
        if attachment in self._frontends:
            await self._stop(attachment)
        elif not known:
            raise ReaderError(
                f"reader {self.name} is not attached to {attachment}", "vccidctl status"
            )

    async def unfollow(self) -> None:
        """Follow a real card no longer; it leaves the reader. May be repeated."""
        follower, self.follower = self.follower, None
        if follower is not None:
            await follower.stop()

    async def close(self) -> None:
        """Take the card out and let every host go."""
        frontends, self._frontends = self._frontends, {}
        await take_all_async(
            self.unfollow, self._take_out, *(frontend.stop for frontend in frontends.values())
        )

    def _take_out(self) -> None:
        if self.reader.card is not None:
            self.reader.remove()

    async def _stop(self, attachment: Attachment) -> None:
        """It is detached also where its frontend could not end as it should."""
        await take_all_async(self._frontends.pop(attachment).stop)

    async def _start(self, attachment: Attachment) -> None:
        frontend = self._maker.make(
            attachment, self._slots(), lambda: self._lost(attachment), self.settings
        )
        try:
            await frontend.start()
        except OSError as error:  # what no frontend expects: too few descriptors, no memory
            raise ReaderError(
                f"reader {self.name} cannot be attached to {attachment}: {error.strerror or error}",
                "the system may be short of something: see ulimit, df and free",
            ) from error
        self._frontends[attachment] = frontend
        self._failed.pop(attachment, None)
        self._released.discard(attachment)

    def _slots(self) -> list[tuple[Reader, PinPad | None]]:
        managed_readers = map(self._find, slot_names(self.name, self.settings.slots))
        return [
            (managed.reader, managed.pin_pad if managed.settings.pin_pad else None)
            for managed in managed_readers
            if managed is not None
        ]

    def _lost(self, attachment: Attachment) -> None:
        if self._frontends.pop(attachment, None) is not None:
            self._released.add(attachment)
            self.lost()
