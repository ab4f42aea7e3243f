# SPDX-License-Identifier: LGPL-2.1-or-later
"""The methods of io.vccid: parameters in, the readers' manager asked, parameters out."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Final

from vccid import __version__
from vccid.control.call_parameters import BadParameter, Taker, Unfit
from vccid.control.card_methods import CardMethods, card_summary
from vccid.control.card_sources import card_source
from vccid.errors import ReaderError, VccidError
from vccid.reader import Reader
from vccid.readers.attachments import Attachment
from vccid.readers.content import Content
from vccid.readers.managed_reader import ManagedReader
from vccid.readers.manager import ReaderManager
from vccid.readers.readers_json import MadeCard, RealCard
from vccid.settings.config import Settings
from vccid.settings.looks import check_label
from vccid.wire.varlink import Parameters

if TYPE_CHECKING:
    from vccid.frontends.pin_pad import Entry, PinPad

Method = Callable[[Taker], Awaitable[Parameters]]


class Methods:
    """What vccidctl and other programs may call.

    Attributes:
        settings: what a request leaves open; replaced when they are read again.
        table: the methods that answer once, by name.
    """

    def __init__(self, manager: ReaderManager, settings: Settings, socket: str) -> None:
        self.settings = settings
        self._manager = manager
        self._socket = socket
        self._since = time.monotonic()
        cards = CardMethods(manager)
        self.table: Final[dict[str, Method]] = {
            "Insert": self.insert,
            "Remove": self.remove,
            "Status": self.status,
            "ListReaders": self.list_readers,
            "Generation": self.generation,
            "AddReader": self.add_reader,
            "RemoveReader": self.remove_reader,
            "Attach": self.attach,
            "Detach": self.detach,
            "AskedPin": self.asked_pin,
            "EnterPin": self.enter_pin,
            "CardInfo": cards.card_info,
            "ResetPin": cards.reset_pin,
            "ResetCard": cards.reset_card,
            "CardObjects": cards.card_objects,
            "Touch": cards.touch,
        }

    async def insert(self, given: Taker) -> Parameters:
        reader, source = given.text("reader"), card_source(given, self.settings)
        password, pin = given.secret("password"), given.secret("pin")
        label, wait = given.text("reader_name"), given.seconds("wait")
        given.done()
        if label and (wrong := check_label(label)):
            raise Unfit("reader_name", "no name for a reader", wrong)
        inserted = await self._manager.insert(reader, source, password, pin, label)
        seen = await _seen(inserted.managed, inserted.generation, wait)
        card = None if inserted.card is None else card_summary(inserted.card)
        return {**seen, "card": card, "warnings": inserted.warnings}

    async def remove(self, given: Taker) -> Parameters:
        reader, wait = given.text("reader"), given.seconds("wait")
        given.done()
        managed, generation, warnings = await self._manager.remove(reader)
        return {**await _seen(managed, generation, wait), "warnings": warnings}

    async def status(self, given: Taker) -> Parameters:
        given.done()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._since, 3),
            "socket": self._socket,
            "readers": self._readers(),
            "far_cards": self._far_cards("vsc"),
            "vpcd": self._far_cards("vpcd"),
            "problems": self._manager.problems,
        }

    async def list_readers(self, given: Taker) -> Parameters:
        given.done()
        return {"readers": self._readers()}

    async def generation(self, given: Taker) -> Parameters:
        given.done()
        return {"generation": self._manager.events.generation}

    async def add_reader(self, given: Taker) -> Parameters:
        name = _required(given, "name")
        given.done()
        return {"reader": self._reader(await self._manager.add_reader(name))}

    async def remove_reader(self, given: Taker) -> Parameters:
        name = _required(given, "name")
        given.done()
        return {"warnings": await self._manager.remove_reader(name)}

    async def attach(self, given: Taker) -> Parameters:
        reader, attachment = given.text("reader"), _attachment(given)
        given.done()
        managed, status, warnings = await self._manager.attach(reader, attachment)
        return {"reader": managed.name, "status": status, "warnings": warnings}

    async def detach(self, given: Taker) -> Parameters:
        reader, attachment = given.text("reader"), _attachment(given)
        given.done()
        managed, warnings = await self._manager.detach(reader, attachment)
        return {"reader": managed.name, "warnings": warnings}

    async def asked_pin(self, given: Taker) -> Parameters:
        managed, wait = self._manager.readers.find(given.text("reader")), given.seconds("wait")
        given.done()
        entry = await _entry(_pin_pad(managed), None, wait)
        return {
            "reader": managed.name,
            "entry": entry.id,
            "host": entry.host,
            "prompts": list(entry.request.prompts),
        }

    async def enter_pin(self, given: Taker) -> Parameters:
        managed, id = self._manager.readers.find(given.text("reader")), given.text("entry")
        pins, end, wait = given.secrets("pins"), given.text("end"), given.seconds("wait")
        given.done()
        if (pins is None) == (end is None) or end not in (None, "cancel", "timeout"):
            raise BadParameter("pins" if end is None else "end")
        if id is not None and wait is not None:
            raise BadParameter("wait")
        entry = await _entry(_pin_pad(managed), id, wait)
        if pins is not None:
            entry.enter([pin.decode("latin-1") for pin in pins])
        elif end == "cancel":
            entry.cancel()
        else:
            entry.time_out()
        return {"reader": managed.name, "host": entry.host}

    async def monitor(self, given: Taker) -> AsyncGenerator[Parameters, None]:
        """The readers as they are, then every event, for as long as it is asked for.

        Raises:
            VccidError: the caller does not keep up.
        """
        given.done()
        watcher = self._manager.events.watch()
        try:
            yield {"readers": self._readers(), "event": None}
            while not watcher.overrun:
                event = await watcher.next()
                told = {"kind": event.kind, "reader": event.reader, "detail": event.detail}
                yield {"readers": None, "event": told}
        finally:
            self._manager.events.unwatch(watcher)
        raise VccidError("events came faster than they were read", "monitor again")

    def _readers(self) -> list[Parameters]:
        managed_readers = self._manager.readers.by_name
        return [self._reader(managed_readers[name]) for name in sorted(managed_readers)]

    def _reader(self, managed: ManagedReader) -> Parameters:
        reader, content = managed.reader, managed.content
        problem = content.problem
        return {
            "name": managed.name,
            "label": reader.label,
            "declared": managed.declared,
            "generation": reader.generation,
            "frontends": [
                {
                    "kind": attached.attachment.kind,
                    "address": attached.attachment.address,
                    "listen": attached.attachment.listen,
                    "up": attached.up,
                    "status": attached.status,
                }
                for attached in managed.attachments.statuses
            ],
            "hosts": [
                {
                    "kind": host.kind,
                    "peer": host.peer,
                    "seen": host.seen >= reader.generation,
                    "commands": host.commands,
                }
                for host in reader.hosts
            ],
            "card": None if reader.card is None else card_summary(reader.card),
            "wanted": list(content.source.certificates)
            if isinstance(content.source, MadeCard)
            else [],
            "real_card": _followed(content),
            "far_card": self._far_card(reader),
            "problem": problem and " — ".join(filter(None, (problem.message, problem.hint))),
            "changed": managed.changed,
        }

    def _far_card(self, reader: Reader) -> Parameters | None:
        listeners = self._manager.far_cards
        far = None if listeners is None else listeners.find(reader)
        if far is None:
            return None
        return {"peer": far.peer, "name": far.name, "commands": far.commands}

    def _far_cards(self, protocol: str) -> Parameters | None:
        listeners = self._manager.far_cards
        listener = None if listeners is None else getattr(listeners, protocol)
        if listener is None or not listener.address:
            return None
        return {"address": listener.address, "peers": listener.peers}


def _required(given: Taker, name: str) -> str:
    value = given.text(name)
    if value is None:
        raise BadParameter(name)
    return value


def _attachment(given: Taker) -> Attachment:
    kind, address = _required(given, "kind"), given.text("address") or ""
    return Attachment.parse(kind, address, given.flag("listen"))


def _pin_pad(managed: ManagedReader) -> PinPad:
    if managed.pin_pad is None:
        raise ReaderError(
            f"reader {managed.name} has no PIN pad",
            f"write [reader.{managed.name}] pin_pad = true in vccid.toml, and reload vccid",
        )
    return managed.pin_pad


async def _entry(pin_pad: PinPad, id: str | None, wait: float | None) -> Entry:
    """What a host asks for: the one named, or the first."""
    if id is not None:
        return pin_pad.find(id)
    # What is not to be waited for is answered even where the peer has ended its side.
    return await pin_pad.wait_asked(wait) if wait else pin_pad.first()


async def _seen(managed: ManagedReader, generation: int, wait: float | None) -> Parameters:
    """Wait for the hosts, if that was asked for, and tell who has seen what was done."""
    reader = managed.reader
    if wait is not None:
        await reader.wait_seen(generation, wait)
    unseen = [f"{host.kind} {host.peer}" for host in reader.hosts if host.seen < generation]
    return {
        "reader": managed.name,
        "generation": generation,
        # Nobody asked to wait: that hosts have not looked yet is no failure.
        "seen": wait is None or not unseen,
        "unseen": sorted(unseen),
    }


def _followed(content: Content) -> Parameters | None:
    source, follower = content.source, content.follower
    if not isinstance(source, RealCard) or follower is None:
        return None
    return {"reader": source.reader, "emulated": source.emulated, "status": follower.status}
