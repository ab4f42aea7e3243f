# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card's file: it keeps everything, says what is wrong with it, and shows no key to others."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.card.piv.host import Host
from vccid.card.piv.contents import Contents
from vccid.card.piv.contents_file import FileKeeper, Sealer
from vccid.errors import StateError

SERIAL = "0123456789abcdef"


def keeper(directory: Path, secret: bytes | None = None) -> FileKeeper:
    return FileKeeper(directory, SERIAL, Sealer(secret))


def written(host: Host) -> Contents:
    """Contents that have a bit of everything."""
    host.manage()
    host.put("9a", b"certificate")
    host.put("5F FF 00", b"more")
    host.generate(0x9A, 0x11)
    host.generate(0x9C, 0x06)
    host.sw("00 FF FF FF", bytes((0x08, 0x9B, 16)) + bytes(range(16)))
    return host.card.memory.contents.with_key(0x9D, None)


@pytest.mark.parametrize("secret", [None, b"a host's secret"])
def test_everything_comes_back(tmp_path: Path, blank: Host, secret: bytes | None) -> None:
    contents = written(blank)
    kept = keeper(tmp_path, secret)
    assert kept.load() is None
    kept.save(contents)
    assert keeper(tmp_path, secret).load() == contents
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [f"{SERIAL}.piv.json"]
    kept.forget()
    kept.forget()
    assert kept.load() is None


def test_nothing_secret_is_left_in_the_clear(tmp_path: Path, blank: Host) -> None:
    contents = written(blank)
    kept = keeper(tmp_path, b"a host's secret")
    kept.save(contents)
    raw = kept.path.read_bytes()
    assert b'"plain"' not in raw
    with pytest.raises(StateError, match="is encrypted, and there is no key for it"):
        keeper(tmp_path).load()
    with pytest.raises(StateError, match="is encrypted under another key"):
        keeper(tmp_path, b"another").load()
    key = contents.keys[0x9A]
    assert key is not None and "pkcs8" not in repr(key) + repr(contents)


def test_a_sealed_key_is_good_for_its_own_place(tmp_path: Path, blank: Host) -> None:
    kept = keeper(tmp_path, b"a host's secret")
    kept.save(written(blank))
    content = json.loads(kept.path.read_bytes())
    content["keys"]["9A"]["key"], content["keys"]["9C"]["key"] = (
        content["keys"]["9C"]["key"], content["keys"]["9A"]["key"],
    )  # fmt: skip
    kept.path.write_text(json.dumps(content))
    with pytest.raises(StateError, match="another key"):
        kept.load()


def damage(content: dict[str, Any], *path: str, value: object = None) -> str:
    place = content
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), None),
        (("version",), 0),
        (("version",), "1"),
        (("guid",), "00"),
        (("guid",), "zz" * 16),
        (("objects", "5FC105"), "!"),
        (("objects",), 5),
        (("objects", "zz"), ""),
        (("management", "algorithm"), 0x11),
        (("management", "algorithm"), 0x0C),
        (("management", "key"), {}),
        (("keys", "9A", "algorithm"), 0x99),
        (("keys", "9A", "pin_policy"), 9),
        (("keys", "9A", "origin"), None),
        (("issuer",), []),
        (("keys", "9A", "key"), {"plain": "MAA="}),
        (("keys", "9A", "algorithm"), 0x14),
    ],
)
def test_a_file_that_is_damaged(
    tmp_path: Path, blank: Host, path: tuple[str, ...], value: object
) -> None:
    kept = keeper(tmp_path)
    kept.save(written(blank))
    kept.path.write_text(damage(json.loads(kept.path.read_bytes()), *path, value=value))
    with pytest.raises(StateError, match="is damaged") as caught:
        kept.load()
    assert "restore it from a backup, or remove it" in caught.value.hint
    assert caught.value.__cause__ is None


def test_a_file_cut_short(tmp_path: Path, blank: Host) -> None:
    kept = keeper(tmp_path)
    kept.save(written(blank))
    raw = kept.path.read_bytes()
    for cut in range(0, len(raw) - 1, 97):
        kept.path.write_bytes(raw[:cut])
        with pytest.raises(StateError, match="is damaged"):
            kept.load()


def test_a_file_of_a_later_version(tmp_path: Path, blank: Host) -> None:
    kept = keeper(tmp_path)
    kept.save(written(blank))
    kept.path.write_text(damage(json.loads(kept.path.read_bytes()), "version", value=2))
    with pytest.raises(StateError, match="is of version 2, from a later vccid"):
        kept.load()


def test_a_folder_that_cannot_be_written(tmp_path: Path, blank: Host) -> None:
    contents = written(blank)
    kept = FileKeeper(tmp_path / "gone", SERIAL, Sealer(None))
    with pytest.raises(StateError, match=r"cannot be written: No such file"):
        kept.save(contents)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    kept = keeper(tmp_path)
    kept.path.mkdir()
    with pytest.raises(StateError, match="cannot be read: Is a directory"):
        kept.load()


class Killed(BaseException):
    """The process ended here."""


@pytest.mark.parametrize("after", range(6))
def test_killed_at_any_write(
    tmp_path: Path, blank: Host, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Whichever call is the last, the file holds the old contents or the new ones."""
    kept = keeper(tmp_path)
    old = blank.card.memory.contents
    kept.save(old)
    new = written(blank)
    calls = 0

    def dying(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > after:
                raise Killed
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("open", "fchmod", "fsync", "rename"):
        dying(name)
    with contextlib.suppress(Killed):
        kept.save(new)
    monkeypatch.undo()
    assert keeper(tmp_path).load() in (old, new)
    kept.save(new)
    assert keeper(tmp_path).load() == new
