# SPDX-License-Identifier: LGPL-2.1-or-later
"""What outlives the daemon: the readers added at run time, and what was put into each reader.

`readers.json` in the state directory. It names certificates; it holds no secret.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from vccid.card.state import replace_file
from vccid.errors import ReaderError, StateError
from vccid.process import user_text
from vccid.readers.attachments import Attachment
from vccid.settings.config import CARD_KINDS, CardKind, check_reader_name
from vccid.settings.looks import MOST_NUMBER, PROFILES, SM_KINDS, TOUCHES, check_atr, check_label

#: The version of the file's layout.
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class MadeCard:
    """What a card is made of.

    Attributes:
        certificates: nicknames, `pkcs11:` URIs without secrets, or absolute paths; none for a
            blank card.
        database: where nicknames are looked up.
        atr: of a CAC: libcacard's T=0 answer to reset, or one of T=1; or any card's,
            in hexadecimal.
        card: its kind.
        serial: a blank card's serial number, "" for a card made of certificates.
        in_memory: whether what is written to it is gone with it.
        environment: of the processes that have PKCS#11 modules, NAME=VALUE each.
        profile: whom a PIV card is taken for, or "".
        number: such a card's serial number, 0 for one of its own.
        touch: who touches it; "" leaves that to the reader.
        secure_messaging: kind of its key 04, "" for a card without.
        contactless: whether hosts are on its contactless interface.
        printed_information: whether a new PIV card has that.
        facial_image: the absolute path of the picture that a new PIV card has, or "".
    """

    certificates: tuple[str, ...]
    database: str
    atr: str
    card: CardKind = "cac"
    serial: str = ""
    in_memory: bool = False
    environment: tuple[str, ...] = ()
    profile: str = ""
    number: int = 0
    touch: str = ""
    secure_messaging: str = ""
    contactless: bool = False
    printed_information: bool = False
    facial_image: str = ""


@dataclass(frozen=True, slots=True)
class RealCard:
    """A card in a PC/SC reader of this host, or of a token there.

    Attributes:
        reader: the PC/SC reader's name; once kept, the complete one.
        emulated: a card of ours made of its certificates, not the card itself.
        environment: as `MadeCard.environment`, of an emulated one.
        card: the kind of an emulated one.
    """

    reader: str
    emulated: bool
    environment: tuple[str, ...] = ()
    card: CardKind = "cac"


#: What can be put into a reader.
CardSource = MadeCard | RealCard


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of one reader.

    Attributes:
        added: at run time, not declared in the settings.
        source: what was put in, or None.
        attachments: what it is shown to beside pcscd's driver.
        label: the name that a request gave it for programs, or "".
    """

    added: bool
    source: CardSource | None
    attachments: tuple[Attachment, ...] = ()
    label: str = ""


class ReadersFile:
    """The file."""

    def __init__(self, state: Path) -> None:
        self._path = state / "readers.json"
        self._lock = asyncio.Lock()
        #: why a file is there that is not to be replaced
        self._kept: StateError | None = None

    def load(self) -> dict[str, Entry]:
        """The readers by name. A file that says nothing sensible is set aside, never overwritten.

        Raises:
            StateError: it cannot be read, or is of a later version, and stays as it is: see
                `save`. Or it was damaged and now has another name.
        """
        self._kept = None
        try:
            return self._read()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged() from error
        except StateError as error:
            self._kept = error
            raise

    def _read(self) -> dict[str, Entry]:
        try:
            mode = self._path.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for
                raise StateError("is no file", "move it elsewhere; then restart vccid")
            return _decode(self._path.read_bytes())
        except FileNotFoundError as error:
            if not self._path.is_symlink():
                return {}
            raise StateError(
                f"{self._path} is a link that leads nowhere",
                "let it lead to the file again, or remove it; then restart vccid",
            ) from error
        except OSError as error:
            raise StateError(
                f"{self._path} cannot be read: {error.strerror}",
                "the daemon must own the file and be able to read it; then restart vccid",
            ) from error
        except StateError as error:
            raise StateError(f"{self._path} {error.message}", error.hint) from error

    async def save(self, entries: Mapping[str, Entry]) -> None:
        """Replace the file; it is on the disk when this returns.

        Raises:
            StateError: the disk is full, or will not take it; or there is a file that `load`
                could not read, and nobody has moved it.
        """
        async with self._lock:
            if self._kept is not None and os.path.lexists(self._path):
                raise self._kept
            try:
                await asyncio.to_thread(replace_file, self._path, _encode(entries))
            except OSError as error:
                raise StateError(
                    f"{self._path} cannot be written: {error.strerror}",
                    f"make room in {self._path.parent} or let the daemon write there",
                ) from error

    def _damaged(self) -> StateError:
        """Set the file aside, beside those that were before."""
        names = (f"{self._path.name}.damaged{f'.{n}' if n else ''}" for n in count())
        paths = map(self._path.with_name, names)
        aside = next(path for path in paths if not os.path.lexists(path))
        try:
            os.rename(self._path, aside)
        except OSError as error:
            self._kept = StateError(
                f"{self._path} is damaged, and cannot be set aside: {error.strerror}",
                f"move it, and let the daemon write in {self._path.parent}",
            )
            return self._kept
        return StateError(
            f"{self._path} is damaged: it was set aside as {aside.name}",
            "insert the cards again; readers added with vccidctl must be added again",
        )


def _encode(entries: Mapping[str, Entry]) -> bytes:
    readers = {
        name: {
            "added": entry.added,
            "attachments": [[to.kind, to.address, to.listen] for to in entry.attachments],
            "wanted": None if entry.source is None else asdict(entry.source),
            "label": entry.label,
        }
        for name, entry in entries.items()
    }
    return json.dumps({"version": VERSION, "readers": readers}, indent=2).encode() + b"\n"


def _decode(raw: bytes) -> dict[str, Entry]:
    content = json.loads(raw)
    version = content["version"]
    if type(version) is not int or version < 1:
        raise ValueError("no version")
    if version > VERSION:
        raise StateError(
            f"is of version {version}, from a later vccid",
            "start that vccid again, or move the file elsewhere and restart this one",
        )
    return {name: _decode_entry(name, entry) for name, entry in content["readers"].items()}


def _decode_entry(name: str, entry: Mapping[str, Any]) -> Entry:
    source = entry["wanted"]
    label = entry.get("label", "")
    if check_reader_name(name) or type(entry["added"]) is not bool:
        raise ValueError("no reader")
    if type(label) is not str or (label and check_label(label)):
        raise ValueError("no name for programs")
    attachments = tuple(_decode_attachment(*fields) for fields in entry["attachments"])
    made = None if source is None else _decode_source(source)
    return Entry(entry["added"], made, attachments, label)


def _decode_attachment(kind: object, address: object, listen: object) -> Attachment:
    try:
        return Attachment.parse(str(kind), str(address), bool(listen))
    except ReaderError as error:
        raise ValueError("no attachment") from error


def _decode_source(source: Mapping[str, Any]) -> CardSource:
    if "reader" in source:
        reader, emulated = source["reader"], source["emulated"]
        if not _is_name(reader) or type(emulated) is not bool:
            raise ValueError("no real card")
        return RealCard(reader, emulated, _decode_environment(source), _decode_kind(source))
    certificates = source["certificates"]
    names = (*certificates, source["database"])
    if type(certificates) is not list or not all(map(_is_name, names)):
        raise ValueError("no certificates")
    kind = _decode_kind(source)
    serial, in_memory = source.get("serial", ""), source.get("in_memory", False)
    if type(serial) is not str or not set(serial) <= set(string.hexdigits):
        raise ValueError("no serial number")
    if type(in_memory) is not bool or type(source["atr"]) is not str or check_atr(source["atr"]):
        raise ValueError("no card")
    return MadeCard(
        tuple(certificates),
        source["database"],
        source["atr"],
        kind,
        serial,
        in_memory,
        _decode_environment(source),
        *_decode_double(source),
        *_decode_objects(source),
    )


def _decode_objects(source: Mapping[str, Any]) -> tuple[bool, str]:
    printed, picture = source.get("printed_information", False), source.get("facial_image", "")
    if type(printed) is not bool or not _is_name(picture):
        raise ValueError("no objects")
    return printed, picture


def _decode_double(source: Mapping[str, Any]) -> tuple[str, int, str, str, bool]:
    profile, number, touch = (
        source.get("profile", ""),
        source.get("number", 0),
        source.get("touch", ""),
    )
    if profile not in ("", *PROFILES) or touch not in ("", *TOUCHES):
        raise ValueError("no profile")
    if type(number) is not int or not 0 <= number <= MOST_NUMBER:
        raise ValueError("no serial number")
    secure, contactless = source.get("secure_messaging", ""), source.get("contactless", False)
    if secure not in ("", *SM_KINDS) or type(contactless) is not bool:
        raise ValueError("no card")
    return profile, number, touch, secure, contactless


def _decode_kind(source: Mapping[str, Any]) -> CardKind:
    return CARD_KINDS[CARD_KINDS.index(source.get("card", "cac"))]


def _decode_environment(source: Mapping[str, Any]) -> tuple[str, ...]:
    environment = source.get("environment", [])
    if type(environment) is not list or not all(
        _is_name(text) and "=" in text[1:] for text in environment
    ):
        raise ValueError("no environment")
    return tuple(environment)


def _is_name(text: object) -> bool:
    """Whether it can be told in JSON and a log line, as all is that came by the control socket."""
    return isinstance(text, str) and not user_text.fault(text)
