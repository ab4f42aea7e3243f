# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is wrong with an NSS database folder; softokn itself would only answer a number."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from vccid.errors import SourceUnusable
from vccid.keys.readable import require_access
from vccid.process.user_text import fault

#: Certificates, then keys; the table each must have.
DATABASES: Final = {"cert9.db": "nssPublic", "key4.db": "nssPrivate"}
#: What softokn's parameters take as it stands; anything else could end a quoted value or a list.
_PLAIN: Final = re.compile(r"[\w/.,:@%+=~ -]+")

#: What tells one state of the database from another: inode, size in bytes, mtime in ns.
Stamp = tuple[tuple[int, int, int], ...]


def database_folder(database: str) -> Path:
    """The folder meant by `sql:FOLDER` or `FOLDER`.

    Raises:
        SourceUnusable: another type, or a path that softokn cannot be given.
    """
    kind, colon, rest = database.partition(":")
    if colon and kind == "dbm":
        raise _dbm(rest)
    if colon and kind in ("rdb", "extern", "nssutil"):
        raise SourceUnusable(
            f"NSS database type {kind}: is not served", "give a folder as sql:FOLDER"
        )
    path = rest if colon and kind == "sql" else database
    if not path or fault(path):
        raise SourceUnusable(
            f"NSS database path {path!r} cannot be given to NSS",
            "it may not be empty or contain line ends",
        )
    if path.startswith("~"):
        raise SourceUnusable(
            f"NSS database path {path} begins with ~, which only a shell understands",
            "give the folder by its full path, as the daemon sees it",
        )
    return Path(path).absolute()


def is_plain(folder: Path) -> bool:
    """Whether a path can stand in softokn's parameters as it is."""
    return _PLAIN.fullmatch(str(folder)) is not None


def check_folder(folder: Path) -> Stamp:
    """Look at the folder and its files as this process's own user.

    Returns:
        The database's present state.

    Raises:
        SourceUnusable: which of them is missing, unreadable or damaged.
    """
    try:
        require_access(folder)
    except FileNotFoundError:
        raise _no_folder(folder) from None
    except OSError as error:
        raise SourceUnusable(f"NSS database folder {folder}: {error.strerror}") from None
    if not folder.is_dir():
        raise SourceUnusable(
            f"{folder} is no NSS database", "name the folder that holds cert9.db and key4.db"
        )
    stamp = []
    for name, table in DATABASES.items():
        path = folder / name
        try:
            require_access(path)
            status = path.stat()
        except FileNotFoundError:
            raise _no_database(folder, name) from None
        except OSError as error:
            raise SourceUnusable(f"{path} of the NSS database: {error.strerror}") from None
        _check_content(path, table)
        stamp.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(stamp)


def is_locked(folder: Path) -> bool:
    """Whether another program is writing to one of the files now."""
    return any(_ask(folder / name, "SELECT 1 FROM sqlite_master") is None for name in DATABASES)


def _check_content(path: Path, table: str) -> None:
    problems = _ask(path, "PRAGMA quick_check(1)")
    if problems is None:
        return  # Locked: it cannot be judged now.
    tables = _ask(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    if problems != ["ok"] or (tables is not None and table not in tables):
        raise SourceUnusable(
            f"{path.name} is damaged in NSS database {path.parent}", "restore it from a backup"
        )


def _ask(path: Path, query: str) -> list[str] | None:
    """The first column of what SQLite answers, [] where it is no database, None if locked.

    Through SQLite and never by open(): closing a file drops this process's locks on it,
    softokn's too (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=0)
    except sqlite3.Error:
        return []
    try:
        return [str(row[0]) for row in connection.execute(query)]
    except sqlite3.DatabaseError as error:
        locked = error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
        return None if locked else []
    finally:
        connection.close()


def _no_folder(folder: Path) -> SourceUnusable:
    return SourceUnusable(
        f"NSS database folder {folder} does not exist", f"certutil -N -d sql:{folder} makes one"
    )


def _no_database(folder: Path, name: str) -> SourceUnusable:
    if name == "cert9.db" and os.path.lexists(folder / "cert8.db"):
        return _dbm(str(folder))
    return SourceUnusable(
        f"{folder} is no NSS database: it has no {name}", f"certutil -N -d sql:{folder} makes one"
    )


def _dbm(folder: str) -> SourceUnusable:
    return SourceUnusable(
        f"{folder} is in the old dbm format",
        f"convert it: certutil -K -X -d sql:{folder}",
    )
