# SPDX-License-Identifier: LGPL-2.1-or-later
"""One reader with all that belongs to it: what it is attached to, and what was put into it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vccid.card.card import Card
from vccid.card.touch import TouchMode
from vccid.errors import ReaderError
from vccid.process.cleanup import take_all_async
from vccid.reader import Event, Reader
from vccid.readers import reader_states
from vccid.readers.attachments import Attachment, Frontend
from vccid.readers.content import Content
from vccid.readers.frontend_maker import FrontendMaker
from vccid.readers.reader_attachments import ReaderAttachments
from vccid.readers.reader_states import READER, State
from vccid.readers.readers_json import Entry
from vccid.settings.config import ReaderSettings, slot_names

if TYPE_CHECKING:
    from vccid.frontends.pin_pad import PinPad


class ManagedReader:
    """A reader and its surroundings.

    Attributes:
        reader: the slot.
        settings: what it is to be.
        content: what was put in.
        attachments: what it is shown to.
        given_label: what a request called the reader, "" to leave that to the settings.
        given_touch: who a request had touch the card that is in, "" to leave that to the settings.
        changed: when a card last came or went, or the reader came; seconds since 1970.
        pin_pad: what PINs are typed on; None where it never had one. It outlives the setting,
            for the hosts that were shown it.
    """

    def __init__(
        self,
        name: str,
        settings: ReaderSettings,
        reason: reader_states.Event,
        *,
        frontends: FrontendMaker,
        publish: Callable[[Event], None],
        find: Callable[[str], ManagedReader | None],
    ) -> None:
        """
        Args:
            reason: why it is to be there.
            find: has the reader of a name: its USB device's slots, itself too.
        """
        self.reader = Reader(name, publish)
        self.settings = settings
        self.content = Content(self.reader)
        self.attachments = ReaderAttachments(name, settings, self._frontend)
        self.given_label = ""
        self.given_touch = ""
        self._card_label = ""
        self.changed = time.time()
        self.pin_pad: PinPad | None = None
        self._maker = frontends
        self._find = find
        self._state = READER.after(READER.initial, reason)

    @property
    def name(self) -> str:
        """The reader's name."""
        return self.reader.name

    @property
    def declared(self) -> bool:
        """Whether it is in the settings."""
        return self._state in reader_states.DECLARED

    @property
    def transient(self) -> bool:
        """Whether it was made for a far card, and is not kept."""
        return self._state in reader_states.TRANSIENT

    @property
    def removed(self) -> bool:
        """Whether it is no reader of the daemon any more."""
        return self._state is State.REMOVED

    @property
    def entry(self) -> Entry | None:
        """What is to be kept of it, or None where the settings say everything."""
        source, attachments = self.content.source, tuple(sorted(self.attachments.kept))
        told = source is not None or attachments or self.given_label
        if self.transient or (self.declared and not told):
            return None
        return Entry(not self.declared, source, attachments, self.given_label)

    async def recall(self, entry: Entry) -> None:
        """What was kept of it before a restart is to be again."""
        self.content.recall(entry.source)
        self.attachments.recall(entry.attachments)
        await self.relabel(entry.label, "")

    def check_there(self) -> None:
        """To be asked when a lock has been waited for.

        Raises:
            ReaderError: it was removed meanwhile.
        """
        if self.removed:
            raise ReaderError(f"reader {self.name} was removed", "vccidctl reader list")

    def move(self, event: reader_states.Event) -> None:
        """The settings declare it, or it ends."""
        self._state = READER.after(self._state, event)

    async def apply(self, settings: ReaderSettings) -> None:
        """Be as the settings want it.

        Raises:
            ConfigError: pcscd's driver cannot be given its socket.
        """
        self.settings = settings
        await self._relabel()
        if self.reader.card is not None:
            self.apply_touch(self.reader.card)
        if settings.pin_pad and self.pin_pad is None:
            from vccid.frontends.pin_pad import PinPad

            self.pin_pad = PinPad()
        await self.attachments.apply(settings)

    async def relabel(self, given: str | None, of_card: str) -> None:
        """Be seen by another name: to programs without pcscd the reader comes anew.

        Args:
            given: the name; None for the one it has been given before.
            of_card: that which goes with the card, where none was given.
        """
        async with self.attachments.lock:
            self.given_label = self.given_label if given is None else given
            self._card_label = of_card
            await self._relabel()

    async def _relabel(self) -> None:
        wanted = (self.given_label, self._card_label, self.settings.reader_name)
        label = next(filter(None, wanted), f"vccid {self.name}")
        if label != self.reader.label:
            self.reader.label = label
            await self.attachments.begin_anew("pcsc")

    def apply_touch(self, card: Card) -> None:
        """Have a card touched as a request or else the settings say."""
        touch = getattr(card, "touch", None)
        if touch is not None:
            touch.mode = TouchMode(self.given_touch or self.settings.touch)

    async def close(self) -> None:
        """Take the card out and let every host go."""
        await take_all_async(self.content.close, self.attachments.close)

    def _frontend(self, attachment: Attachment, lost: Callable[[], None]) -> Frontend:
        return self._maker.make(attachment, self._slots(), lost, self.settings)

    def _slots(self) -> list[tuple[Reader, PinPad | None]]:
        managed_readers = map(self._find, slot_names(self.name, self.settings.slots))
        return [
            (managed.reader, managed.pin_pad if managed.settings.pin_pad else None)
            for managed in managed_readers
            if managed is not None
        ]
