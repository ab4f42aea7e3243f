# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands behind --certs and --db, made fit for a daemon that stands in another folder."""

from __future__ import annotations

import os
import re
from typing import Final

#: What certutil writes before a nickname; with it, a "/" in a nickname makes no path of it.
_NSS_PREFIXES: Final = ("NSS Certificate DB:", "NSS FIPS 140-2 Certificate DB:")
_FILE_SUFFIXES: Final = (".pem", ".crt", ".cer", ".der", ".p12", ".pfx")
_URI: Final = "pkcs11:"
#: What people write around a comma; any other blank is a name's own.
_BLANKS: Final = " \t\n"
#: Types of NSS databases (certutil(1), -d).
_DATABASE_TYPES: Final = ("sql", "dbm", "rdb", "extern", "nssutil")


def split_items(text: str) -> list[str]:
    r"""Items divided by commas; `\,` is a comma within one, and so is one of a file's name.

    Blanks around an item are not its own, unless a file has them.
    """
    pieces = re.split(r"(?<!\\),", text)
    items = []
    while pieces:
        count, item = _longest_file(pieces)
        items.append(item if count else pieces[0].strip(_BLANKS).replace("\\,", ","))
        del pieces[: count or 1]
    return [item for item in items if item]


def _longest_file(pieces: list[str]) -> tuple[int, str]:
    """How many pieces from the first on are one file's name, and that; 0 where none are."""
    for count in range(len(pieces), 0, -1):
        whole = ",".join(pieces[:count])
        for name in (whole, whole.lstrip(_BLANKS), whole.strip(_BLANKS)):
            if _exists(name):
                return count, name
    return 0, ""


def _exists(item: str) -> bool:
    """Whether it names a file by a path or a known ending, `#NAME` behind it or not."""
    return any(
        _looks_like_file(path) and os.path.lexists(os.path.expanduser(path))
        for path in {item, item.rpartition("#")[0]}
    )


def _looks_like_file(path: str) -> bool:
    if path.lower().startswith(_URI) or path.startswith(_NSS_PREFIXES):
        return False
    return "/" in path or path.lower().endswith(_FILE_SUFFIXES)


def absolute_item(item: str) -> str:
    """A file's path made absolute, since the daemon stands in another directory."""
    if item[: len(_URI)].lower() == _URI or item.startswith(_NSS_PREFIXES):
        return item
    is_file = "/" in item or _exists(item)
    return os.path.abspath(os.path.expanduser(item)) if is_file else item


def absolute_database(database: str) -> str:
    """An NSS database's folder made absolute, its type kept."""
    kind, colon, path = database.partition(":")
    if not colon or kind not in _DATABASE_TYPES:
        kind, colon, path = "", "", database
    return f"{kind}{colon}{os.path.abspath(os.path.expanduser(path))}"
