# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is to see of a reader, as directories and files. Nothing here changes.

NAME/
  state            "inserted" or "empty"
  events           what happens to the reader, line by line
  atr              and what follows: only while a card is in
  card/serial      where it is known
  card/pin-tries   where the card tells
  card/certs/      *.pem, *.der and *.pub of each certificate
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vccid.files import names
from vccid.files.certificates import openssh, pem
from vccid.wire.varlink import Parameters

PIN_TRIES: Final = "pin-tries"
EVENTS: Final = "events"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; `time` is in nanoseconds since 1970, here and below."""

    content: bytes
    time: int


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str
    time: int


@dataclass(frozen=True, slots=True)
class Stream:
    """What happens to a reader; each open has it from then on."""

    reader: str
    time: int


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory.

    Attributes:
        key: two directories of one name are the same one if their keys are equal.
        entries: by name, in the order listed; None: not known yet, to be asked for.
        directories: how many of the entries are directories, where they are not known.
    """

    key: object
    time: int
    entries: Mapping[str, Node] | None = field(default=None, compare=False)
    directories: int = 0


Node = File | Link | Stream | Directory


def reader_of(reader: Parameters) -> Directory:
    """A reader's directory, its content left open.

    Args:
        reader: as ListReaders tells it.
    """
    has_card = reader["card"] is not None
    return Directory(reader["name"], nanoseconds(reader), directories=int(has_card))


def content_of(reader: Parameters, info: Parameters | None) -> dict[str, Node]:
    """What is in a reader's directory.

    Args:
        reader: as ListReaders tells it.
        info: what CardInfo tells, or None for an empty reader.
    """
    time = nanoseconds(reader)
    state = "empty" if info is None else "inserted"
    entries: dict[str, Node] = {"state": _line(state, time), EVENTS: Stream(reader["name"], time)}
    if info is not None:
        atr = base64.b64decode(info["atr"])
        entries["atr"] = _line(atr.hex(" ").upper(), time)
        card = _card(info, (reader["generation"], time), time)
        entries["card"] = card
    return entries


def pin_tries(info: Parameters, time: int) -> File | None:
    """The PIN tries left, or None where the card does not tell."""
    tries = info["card"].get("tries")
    return None if tries is None else _line(str(tries), time)


def nanoseconds(reader: Parameters) -> int:
    """When a reader's card last came or went."""
    return int((reader.get("changed") or 0) * 1e9)


def _card(info: Parameters, key: object, time: int) -> Directory:
    entries: dict[str, Node] = {}
    if serial := info["card"]["serial"]:
        entries["serial"] = _line(serial, time)
    if (tries := pin_tries(info, time)) is not None:
        entries[PIN_TRIES] = tries
    entries["certs"] = Directory(key, time, _certificates(info["certificates"], time))
    return Directory(key, time, entries)


def _certificates(certificates: list[Parameters], time: int) -> dict[str, Node]:
    entries: dict[str, Node] = {}
    chosen = names.stems([certificate["name"] for certificate in certificates])
    for stem, certificate in zip(chosen, certificates, strict=True):
        der = base64.b64decode(certificate["der"])
        entries[f"{stem}.pem"] = File(pem(der), time)
        entries[f"{stem}.der"] = File(der, time)
        if (line := openssh(der, stem)) is not None:
            entries[f"{stem}.pub"] = File(line, time)
    for role, stem in names.roles(chosen).items():
        for ending in (".pem", ".der", ".pub"):
            if stem + ending in entries:
                entries[role + ending] = Link(stem + ending, time)
    return entries


def _line(text: str, time: int) -> File:
    return File(text.encode() + b"\n", time)
