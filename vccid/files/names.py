# SPDX-License-Identifier: LGPL-2.1-or-later
"""File names for certificates: from what the user called each, and none in another's way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote

#: NAME_MAX of Linux, in bytes.
LONGEST_NAME: Final = 255
#: What a stem may have of it: an ending and a number go behind.
LONGEST_STEM: Final = LONGEST_NAME - 15

#: Further names of a card's first three certificates.
ROLES: Final = ("id", "signature", "encryption")

_FILE_ENDINGS: Final = (".pem", ".crt", ".cer", ".der", ".p12", ".pfx")
_NAMELESS: Final = "certificate"


def stems(names: Sequence[str]) -> list[str]:
    """A file name without its ending for each certificate, in order.

    The second of one name is NAME~2, and so on: a card's files have the same names always.
    """
    chosen: list[str] = []
    for name in names:
        stem = _clean(_short(name))
        number, free = 1, stem
        while free in chosen:
            number += 1
            free = f"{stem}~{number}"
        chosen.append(free)
    return chosen


def roles(chosen: Sequence[str]) -> dict[str, str]:
    """Further names of the first three, each with its stem; none that a certificate has itself."""
    pairs = zip(ROLES, chosen, strict=False)
    return {role: stem for role, stem in pairs if role not in chosen}


def _short(name: str) -> str:
    """Of a PKCS#11 URI (RFC 7512) the object, of a path the last part without its ending."""
    if name.startswith("pkcs11:"):
        path = name.removeprefix("pkcs11:").partition("?")[0]
        attributes = dict(part.partition("=")[::2] for part in path.split(";"))
        return unquote(attributes.get("object", "") or attributes.get("id", ""))
    if name.startswith("/"):
        path = PurePosixPath(name).name
        stem, dot, ending = path.rpartition(".")
        return stem if dot + ending.lower() in _FILE_ENDINGS else path
    return name


def _clean(name: str) -> str:
    """Without what a file name may not have, and what hides a file or looks like an option."""
    plain = "".join(c if c.isprintable() and c != "/" else "_" for c in name) or _NAMELESS
    if plain[0] in ".-":
        plain = "_" + plain[1:]
    return plain.encode()[:LONGEST_STEM].decode(errors="ignore")
