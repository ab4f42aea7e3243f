# SPDX-License-Identifier: LGPL-2.1-or-later
"""The methods of io.vccid: parameters in, the service asked, parameters out."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Final

from vccid import __version__
from vccid.card.card import Card
from vccid.control.call_parameters import BadParameter, Taker
from vccid.errors import ReaderError, VccidError
from vccid.reader import Reader
from vccid.readers.attachments import Attachment
from vccid.readers.managed_reader import Station
from vccid.readers.manager import Service
from vccid.readers.readers_json import RealCard, Wanted, Wish
from vccid.settings.config import ATRS, Settings
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

    def __init__(self, service: Service, settings: Settings, socket: str) -> None:
        self.settings = settings
        self._service = service
        self._socket = socket
        self._since = time.monotonic()
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
            "CardInfo": self.card_info,
            "ResetPin": self.reset_pin,
        }

    async def insert(self, given: Taker) -> Parameters:
        reader, wanted = given.text("reader"), self._wanted(given)
        password, pin = given.secret("password"), given.secret("pin")
        wait = given.seconds("wait")
        given.done()
        inserted = await self._service.insert(reader, wanted, password, pin)
        seen = await _seen(inserted.station, inserted.generation, wait)
        card = None if inserted.card is None else _card(inserted.card)
        return {**seen, "card": card, "warnings": inserted.warnings}

    async def remove(self, given: Taker) -> Parameters:
        reader, wait = given.text("reader"), given.seconds("wait")
        given.done()
        station, generation, warnings = await self._service.remove(reader)
        return {**await _seen(station, generation, wait), "warnings": warnings}

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
            "problems": self._service.problems,
        }

    async def list_readers(self, given: Taker) -> Parameters:
        given.done()
        return {"readers": self._readers()}

    async def generation(self, given: Taker) -> Parameters:
        given.done()
        return {"generation": self._service.generation}

    async def add_reader(self, given: Taker) -> Parameters:
        name = _required(given, "name")
        given.done()
        return {"reader": self._reader(await self._service.add_reader(name))}

    async def remove_reader(self, given: Taker) -> Parameters:
        name = _required(given, "name")
        given.done()
        return {"warnings": await self._service.remove_reader(name)}

    async def attach(self, given: Taker) -> Parameters:
        reader, attachment = given.text("reader"), _attachment(given)
        given.done()
        station, status, warnings = await self._service.attach(reader, attachment)
        return {"reader": station.name, "status": status, "warnings": warnings}

    async def detach(self, given: Taker) -> Parameters:
        reader, attachment = given.text("reader"), _attachment(given)
        given.done()
        station, warnings = await self._service.detach(reader, attachment)
        return {"reader": station.name, "warnings": warnings}

    async def asked_pin(self, given: Taker) -> Parameters:
        station, wait = self._service.station(given.text("reader")), given.seconds("wait")
        given.done()
        entry = await _entry(_pin_pad(station), None, wait)
        return {
            "reader": station.name,
            "entry": entry.id,
            "host": entry.host,
            "prompts": list(entry.request.prompts),
        }

    async def enter_pin(self, given: Taker) -> Parameters:
        station, id = self._service.station(given.text("reader")), given.text("entry")
        pins, end, wait = given.secrets("pins"), given.text("end"), given.seconds("wait")
        given.done()
        if (pins is None) == (end is None) or end not in (None, "cancel", "timeout"):
            raise BadParameter("pins" if end is None else "end")
        if id is not None and wait is not None:
            raise BadParameter("wait")
        entry = await _entry(_pin_pad(station), id, wait)
        if pins is not None:
            entry.enter([pin.decode("latin-1") for pin in pins])
        elif end == "cancel":
            entry.cancel()
        else:
            entry.time_out()
        return {"reader": station.name, "host": entry.host}

    async def card_info(self, given: Taker) -> Parameters:
        station = self._service.station(given.text("reader"))
        given.done()
        from vccid.control.certificate_text import describe

        card = _card_in(station)
        info = card.info()
        return {
            "reader": station.name,
            "card": _card(card),
            "atr": _base64(card.atr),
            "certificates": [
                {"name": name, **describe(der), "der": _base64(der)}
                for name, der in zip(info.names, info.certificates, strict=True)
            ],
        }

    async def reset_pin(self, given: Taker) -> Parameters:
        station = self._service.station(given.text("reader"))
        pin = given.secret("pin")
        given.done()
        from vccid.card.cac.cac_card import CacCard

        card = _card_in(station)
        if not isinstance(card, CacCard):
            raise VccidError(
                f"the PIN of the card in {station.name} is not vccid's to reset",
                "its issuer can unblock it",
            )
        await card.pin.reset(pin)
        return {"reader": station.name, "card": _card(card), "warnings": []}

    async def monitor(self, given: Taker) -> AsyncGenerator[Parameters, None]:
        """The readers as they are, then every event, for as long as it is asked for.

        Raises:
            VccidError: the caller does not keep up.
        """
        given.done()
        watcher = self._service.watch()
        try:
            yield {"readers": self._readers(), "event": None}
            while not watcher.overrun:
                event = await watcher.next()
                told = {"kind": event.kind, "reader": event.reader, "detail": event.detail}
                yield {"readers": None, "event": told}
        finally:
            self._service.unwatch(watcher)
        raise VccidError("events came faster than they were read", "monitor again")

    def _wanted(self, given: Taker) -> Wish | None:
        certificates = given.texts("certificates")
        database, atr = given.text("database"), given.text("atr")
        real = _real_card(given)
        if atr is not None and atr not in ATRS:
            raise BadParameter("atr")
        if real is not None:
            if certificates is not None:
                raise BadParameter("certificates")
            if database is not None or atr is not None:
                raise BadParameter("database" if atr is None else "atr")
            return real
        if certificates is None:
            if database is not None:
                raise BadParameter("database")
            if atr is not None:
                raise BadParameter("atr")
            return None
        defaults = self.settings.certificates
        chosen = defaults.atr if atr is None else ATRS[ATRS.index(atr)]
        return Wanted(certificates, database or defaults.database, chosen)

    def _readers(self) -> list[Parameters]:
        stations = self._service.stations
        return [self._reader(stations[name]) for name in sorted(stations)]

    def _reader(self, station: Station) -> Parameters:
        reader, problem = station.reader, station.problem
        return {
            "name": station.name,
            "declared": station.declared,
            "generation": reader.generation,
            "frontends": [
                {
                    "kind": standing.attachment.kind,
                    "address": standing.attachment.address,
                    "listen": standing.attachment.listen,
                    "up": standing.up,
                    "status": standing.status,
                }
                for standing in station.standings
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
            "card": None if reader.card is None else _card(reader.card),
            "wanted": list(station.wanted.certificates)
            if isinstance(station.wanted, Wanted)
            else [],
            "real_card": _followed(station),
            "far_card": self._far_card(reader),
            "problem": problem and " — ".join(filter(None, (problem.message, problem.hint))),
            "changed": station.changed,
        }

    def _far_card(self, reader: Reader) -> Parameters | None:
        listeners = self._service.far_cards
        far = None if listeners is None else listeners.find(reader)
        if far is None:
            return None
        return {"peer": far.peer, "name": far.name, "commands": far.commands}

    def _far_cards(self, protocol: str) -> Parameters | None:
        listeners = self._service.far_cards
        listener = None if listeners is None else getattr(listeners, protocol)
        if listener is None or not listener.address:
            return None
        return {"address": listener.address, "peers": listener.peers}


def _required(given: Taker, name: str) -> str:
    value = given.text(name)
    if value is None:
        raise BadParameter(name)
    return value


def _real_card(given: Taker) -> RealCard | None:
    relayed, emulated = given.text("pcsc_reader"), given.text("hardware")
    if relayed is not None and emulated is not None:
        raise BadParameter("hardware")
    if emulated is not None:
        return RealCard(emulated, emulated=True)
    if relayed == "":
        raise BadParameter("pcsc_reader")
    return None if relayed is None else RealCard(relayed, emulated=False)


def _attachment(given: Taker) -> Attachment:
    kind, address = _required(given, "kind"), given.text("address") or ""
    return Attachment.parse(kind, address, given.flag("listen"))


def _card_in(station: Station) -> Card:
    card = station.reader.card
    if card is not None:
        return card
    problem = station.problem
    hint = "insert one: vccidctl insert --certs A,B,C"
    if problem is not None:
        hint = f"it could not be put back: {problem.message}"
    raise ReaderError(f"reader {station.name} holds no card", hint)


def _pin_pad(station: Station) -> PinPad:
    if station.pin_pad is None:
        raise ReaderError(
            f"reader {station.name} has no PIN pad",
            f"write [reader.{station.name}] pin_pad = true in vccid.toml, and reload vccid",
        )
    return station.pin_pad


async def _entry(pin_pad: PinPad, id: str | None, wait: float | None) -> Entry:
    """What a host asks for: the one named, or the first."""
    if id is not None:
        return pin_pad.find(id)
    # What is not to be waited for is answered even where the peer has ended its side.
    return await pin_pad.wait_asked(wait) if wait else pin_pad.first()


async def _seen(station: Station, generation: int, wait: float | None) -> Parameters:
    """Wait for the hosts, if that was asked for, and tell who has seen what was done."""
    reader = station.reader
    if wait is not None:
        await reader.wait_seen(generation, wait)
    unseen = [f"{host.kind} {host.peer}" for host in reader.hosts if host.seen < generation]
    return {
        "reader": station.name,
        "generation": generation,
        # Nobody asked to wait: that hosts have not looked yet is no failure.
        "seen": wait is None or not unseen,
        "unseen": sorted(unseen),
    }


def _followed(station: Station) -> Parameters | None:
    wanted, follower = station.wanted, station.follower
    if not isinstance(wanted, RealCard) or follower is None:
        return None
    return {"reader": wanted.reader, "emulated": wanted.emulated, "status": follower.status}


def _card(card: Card) -> Parameters:
    info = card.info()
    return {
        "kind": info.kind,
        "serial": info.serial,
        "label": info.label,
        "pin": info.pin_kind,
        "tries": info.tries_left,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
