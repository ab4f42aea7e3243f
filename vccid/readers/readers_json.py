# SPDX-License-Identifier: LGPL-2.1-or-later
"""What outlives the daemon: the readers added at run time, and what was put into each reader.

`readers.json` in the state directory. It names certificates; it holds no secret.
"""

from __future__ import annotations

import asyncio
import json
import os
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from vccid.card.state import replace_file
from vccid.errors import ReaderError, StateError
from vccid.readers.attachments import Attachment
from vccid.settings.config import ATRS, CARD_KINDS, Atr, CardKind, check_reader_name

#: The version of the file's layout.
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a card is made of.

    Attributes:
        certificates: nicknames, `pkcs11:` URIs without secrets, or absolute paths; none for a
            blank card.
        database: where nicknames are looked up.
        atr: of a CAC: libcacard's T=0 answer to reset, or one of T=1.
        card: its kind.
        serial: a blank card's serial number, "" for a card made of certificates.
        in_memory: whether what is written to it is gone with it.
        environment: of the processes that have PKCS#11 modules, NAME=VALUE each.
    """

    certificates: tuple[str, ...]
    database: str
    atr: Atr
    card: CardKind = "cac"
    serial: str = ""
    in_memory: bool = False
    environment: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RealCard:
    """A card in a PC/SC reader of this host, or of a token there.

    Attributes:
        reader: the PC/SC reader's name; once kept, the complete one.
        emulated: a card of ours made of its certificates, not the card itself.
        environment: as `Wanted.environment`, of an emulated one.
    """

    reader: str
    emulated: bool
    environment: tuple[str, ...] = ()


#: What can be put into a reader.
Wish = Wanted | RealCard


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of one reader.

    Attributes:
        added: at run time, not declared in the settings.
        wanted: what was put in, or None.
        attachments: what it is shown to beside pcscd's driver.
    """

    added: bool
    wanted: Wish | None
    attachments: tuple[Attachment, ...] = ()


class Inventory:
    """The file."""

    def __init__(self, state: Path) -> None:
        self._path = state / "readers.json"
        self._lock = asyncio.Lock()

    def load(self) -> dict[str, Entry]:
        """The readers by name. A file that says nothing sensible is set aside, never overwritten.

        Raises:
            StateError: it cannot be read, or was damaged and now has another name.
        """
        try:
            return _decode(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StateError(
                f"{self._path} cannot be read: {error.strerror}",
                "the daemon must own the file and be able to read it",
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StateError(
                f"{self._path} is damaged: {self._set_aside()}",
                "insert the cards again; readers added with vccidctl must be added again",
            ) from error

    async def save(self, entries: Mapping[str, Entry]) -> None:
        """Replace the file; it is on the disk when this returns.

        Raises:
            StateError: the disk is full, or will not take it.
        """
        async with self._lock:
            try:
                await asyncio.to_thread(replace_file, self._path, _encode(entries))
            except OSError as error:
                raise StateError(
                    f"{self._path} cannot be written: {error.strerror}",
                    f"make room in {self._path.parent} or let the daemon write there",
                ) from error

    def _set_aside(self) -> str:
        aside = self._path.with_name("readers.json.damaged")
        try:
            os.replace(self._path, aside)
        except OSError as error:
            return f"it cannot be set aside: {error.strerror}"
        return f"it was set aside as {aside.name}"


def _encode(entries: Mapping[str, Entry]) -> bytes:
    readers = {
        name: {
            "added": entry.added,
            "attachments": [[to.kind, to.address, to.listen] for to in entry.attachments],
            "wanted": None if entry.wanted is None else asdict(entry.wanted),
        }
        for name, entry in entries.items()
    }
    return json.dumps({"version": VERSION, "readers": readers}, indent=2).encode() + b"\n"


def _decode(raw: bytes) -> dict[str, Entry]:
    content = json.loads(raw)
    if content["version"] != VERSION:
        raise ValueError("another version's file")
    return {name: _decode_entry(name, entry) for name, entry in content["readers"].items()}


def _decode_entry(name: str, entry: Mapping[str, Any]) -> Entry:
    wanted = entry["wanted"]
    if check_reader_name(name) or type(entry["added"]) is not bool:
        raise ValueError("no reader")
    attachments = tuple(_decode_attachment(*fields) for fields in entry["attachments"])
    return Entry(entry["added"], None if wanted is None else _decode_wanted(wanted), attachments)


def _decode_attachment(kind: object, address: object, listen: object) -> Attachment:
    try:
        return Attachment.parse(str(kind), str(address), bool(listen))
    except ReaderError as error:
        raise ValueError("no attachment") from error


def _decode_wanted(wanted: Mapping[str, Any]) -> Wish:
    if "reader" in wanted:
        reader, emulated = wanted["reader"], wanted["emulated"]
        if type(reader) is not str or type(emulated) is not bool:
            raise ValueError("no real card")
        return RealCard(reader, emulated, _decode_environment(wanted))
    certificates = wanted["certificates"]
    texts = [*certificates, wanted["database"]]
    if type(certificates) is not list or not all(isinstance(text, str) for text in texts):
        raise ValueError("no certificates")
    kind = CARD_KINDS[CARD_KINDS.index(wanted.get("card", "cac"))]
    serial, in_memory = wanted.get("serial", ""), wanted.get("in_memory", False)
    if not set(serial) <= set(string.hexdigits) or type(in_memory) is not bool:
        raise ValueError("no card")
    return Wanted(
        tuple(certificates),
        wanted["database"],
        ATRS[ATRS.index(wanted["atr"])],
        kind,
        serial,
        in_memory,
        _decode_environment(wanted),
    )


def _decode_environment(wanted: Mapping[str, Any]) -> tuple[str, ...]:
    environment = wanted.get("environment", [])
    if type(environment) is not list or not all(
        isinstance(text, str) and "=" in text[1:] and "\0" not in text for text in environment
    ):
        raise ValueError("no environment")
    return tuple(environment)
