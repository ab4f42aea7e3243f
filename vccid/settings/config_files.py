# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings' files, and what they come to.

`vccid.toml` in the configuration directory is read first, then `vccid.toml.d/*.toml` by
name; a later file's value replaces an earlier one's, key by key.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vccid.errors import ConfigError
from vccid.settings.config import (
    DEFAULT_READER,
    READER_TABLE,
    TABLES,
    ReaderSettings,
    Settings,
    check_reader_name,
    check_value,
    declared,
    from_text,
    slot_names,
)
from vccid.settings.toml_lines import key_lines, line_of

#: (table, key) or ("reader", NAME, key) -> value
_Values = dict[tuple[str, ...], Any]


def load(directory: Path, overrides: Mapping[tuple[str, str], str] | None = None) -> Settings:
    """Read the settings.

    Args:
        directory: the configuration directory; it and its files need not exist.
        overrides: values as the command line has them, by table and key; they were checked.

    Raises:
        ConfigError: a file cannot be read or is no TOML, a key is unknown, a value unfit.
    """
    values: _Values = {}
    files = _files(directory)
    for path in files:
        values.update(_read(path))
    for (table, key), text in (overrides or {}).items():
        values[table, key] = from_text(declared(TABLES[table])[key], text)
    tables = {
        name: table(**{key[1]: value for key, value in values.items() if key[0] == name})
        for name, table in TABLES.items()
    }
    readers = _readers(values)
    if tables["pcsc"].all:
        readers = {name: replace(reader, pcsc=True) for name, reader in readers.items()}
    return Settings(**tables, readers=readers, files=tuple(files))


def _readers(values: _Values) -> dict[str, ReaderSettings]:
    given: dict[str, dict[str, Any]] = {DEFAULT_READER: {}}
    for path, value in values.items():
        if path[0] == READER_TABLE:
            table = given.setdefault(path[1], {})
            if len(path) == 3:
                table[path[2]] = value
    readers = {name: ReaderSettings(**table) for name, table in sorted(given.items())}
    for name, reader in tuple(readers.items()):
        for further in slot_names(name, reader.slots)[1:]:
            if wrong := check_reader_name(further):
                raise ConfigError(f"{name} cannot have the slot {further!r}", wrong)
            readers.setdefault(further, replace(reader, slots=1))
    return {name: reader for name, reader in readers.items() if reader.enabled}


def _files(directory: Path) -> list[Path]:
    """The files there are, in the order they are read; hidden ones are left alone."""
    main, folder = directory / "vccid.toml", directory / "vccid.toml.d"
    found = []
    try:
        with suppress(FileNotFoundError):
            main.lstat()
            found.append(main)
        with suppress(FileNotFoundError):
            names = (name for name in os.listdir(folder) if re.fullmatch(r"[^.].*\.toml", name))
            found += [folder / name for name in sorted(names)]
    except OSError as error:
        raise ConfigError(
            f"{error.filename} cannot be read: {error.strerror}", "let the daemon's user read it"
        ) from error
    return found


class _File:
    """One file while it is read: its tables, and where each key stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be read: {error.strerror}", "let the daemon's user read it"
            ) from error
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{path}:{line}: not UTF-8", "TOML files are UTF-8") from error
        try:
            self.tables = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigError(*_syntax(path, text, str(error))) from error
        self._lines = key_lines(text)

    def wrong(self, key: tuple[str, ...], what: str, hint: str) -> ConfigError:
        return ConfigError(f"{self._path}:{line_of(self._lines, key)}: {what}", hint)


def _syntax(path: Path, text: str, error: str) -> tuple[str, str]:
    position = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", error)
    what = error[: position.start()] if position else error
    line = position[1] if position and position[1] else text.rstrip("\n").count("\n") + 1
    return f"{path}:{line}: no valid TOML: {what}", "text goes in quotes; see vccid.toml(5)"


def _read(path: Path) -> _Values:
    file = _File(path)
    values: _Values = {}
    for name, content in file.tables.items():
        if name == READER_TABLE:
            values.update(_read_readers(file, content))
        elif name in TABLES:
            values.update(_read_table(file, (name,), TABLES[name], content))
        else:
            raise file.wrong((name,), f"unknown table [{name}]", _near(name, [*TABLES, "reader"]))
    return values


def _read_readers(file: _File, content: object) -> _Values:
    if not isinstance(content, dict):
        raise file.wrong((READER_TABLE,), "reader is a table of readers", "write [reader.NAME]")
    values: _Values = {}
    for name, table in content.items():
        path = (READER_TABLE, name)
        if wrong := check_reader_name(name):
            raise file.wrong(path, f"bad reader name {name!r}", wrong)
        values[path] = None
        values.update(_read_table(file, path, ReaderSettings, table))
    return values


def _read_table(file: _File, path: tuple[str, ...], table: type, content: object) -> _Values:
    title = ".".join(path)
    if not isinstance(content, dict):
        raise file.wrong(path, f"{title} is a table, not a value", f"write [{title}]")
    known = declared(table)
    values: _Values = {}
    for key, value in content.items():
        if key not in known:
            raise file.wrong((*path, key), f"unknown key {key} in [{title}]", _near(key, known))
        if wanted := check_value(known[key], value):
            raise file.wrong((*path, key), f"{title}.{key} must be {wanted}", known[key].help)
        values[(*path, key)] = tuple(value) if isinstance(value, list) else value
    return values


def _near(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
