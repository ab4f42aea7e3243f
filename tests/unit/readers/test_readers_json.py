# SPDX-License-Identifier: LGPL-2.1-or-later
"""What outlives the daemon."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vccid.errors import StateError
from vccid.readers.attachments import Attachment
from vccid.readers.readers_json import Entry, MadeCard, ReadersFile, RealCard

ENTRIES = {
    "vccid0": Entry(False, MadeCard(("cert1", "/a/b.pem"), "sql:/etc/pki/nssdb", "cac")),
    "lab": Entry(True, MadeCard(("cert1",), "sql:/x", "t1"), (Attachment("vhci"),)),
    "empty": Entry(True, None),
    "real": Entry(True, RealCard("ACS ACR38U 00 00", emulated=True)),
}


async def test_it_comes_back(tmp_path: Path) -> None:
    readers_file = ReadersFile(tmp_path)
    assert readers_file.load() == {}
    await readers_file.save(ENTRIES)
    assert ReadersFile(tmp_path).load() == ENTRIES
    assert stat.S_IMODE((tmp_path / "readers.json").stat().st_mode) == 0o600
    await readers_file.save({})
    assert readers_file.load() == {}


async def test_a_file_cut_short_is_set_aside_wherever_it_was_cut(tmp_path: Path) -> None:
    readers_file, path = ReadersFile(tmp_path), tmp_path / "readers.json"
    await readers_file.save(ENTRIES)
    whole = path.read_bytes()
    for number, length in enumerate(range(0, len(whole) - 2, 7)):
        name = f"readers.json.damaged{f'.{number}' if number else ''}"
        path.write_bytes(whole[:length])
        with pytest.raises(StateError, match=rf"damaged: it was set aside as {name}$"):
            readers_file.load()
        assert (tmp_path / name).read_bytes() == whole[:length]
        assert readers_file.load() == {}, "the next start is a fresh one"
        await readers_file.save(ENTRIES)
    assert (tmp_path / "readers.json.damaged").read_bytes() == b"", "the first is still there"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff", b"[]", b"null", b'{"version":1}', b'{"version":0,"readers":{}}',
        b'{"version":true}',
        b'{"version":1,"readers":[1]}', b'{"version":1,"readers":{"a":null}}',
        b'{"version":1,"readers":{"../a":{"added":true,"wanted":null,"attachments":[]}}}',
        b'{"version":1,"readers":{"a":{"added":1,"wanted":null,"attachments":[]}}}',
        b'{"version":1,"readers":{"a":{"added":true,"wanted":{},"attachments":[]}}}',
        b'{"version":1,"readers":{"a":{"added":true,"attachments":[["x","",false]],"wanted":null}}}',
        b'{"version":1,"readers":{"a":{"added":true,"attachments":[],"wanted":'
        b'{"certificates":"a","database":"d","atr":"cac"}}}}',
        b'{"version":1,"readers":{"a":{"added":true,"attachments":[],"wanted":'
        b'{"reader":1,"emulated":true}}}}',
        b'{"version":1,"readers":{"a":{"added":true,"attachments":[],"wanted":'
        b'{"certificates":["a"],"database":"d","atr":"?"}}}}',
        b'{"version":1,"readers":{"a":{"added":true,"attachments":[],"wanted":'
        b'{"certificates":["\\ud800"],"database":"d","atr":"cac"}}}}',
        b'{"version":1,"readers":{"a":{"added":true,"attachments":[],"wanted":'
        b'{"certificates":["a"],"database":"d\\n","atr":"cac"}}}}',
        b'{"version":1,"readers":{"a":{"added":true,"attachments":[],"wanted":'
        b'{"certificates":[],"database":"d","atr":"cac","serial":{"a":1}}}}}',
        b'{"version":1,"readers":{"a":{"added":true,"attachments":[],"wanted":'
        b'{"reader":"\\udcff","emulated":true}}}}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_inventory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "readers.json").write_bytes(content)
    with pytest.raises(StateError, match="is damaged"):
        ReadersFile(tmp_path).load()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["a", "added", "wanted", "attachments", "certificates", "database", "atr"]),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)


@given(_json)
def test_anything_is_an_inventory_or_damaged(
    tmp_path_factory: pytest.TempPathFactory, readers: object
) -> None:
    directory = tmp_path_factory.mktemp("state")
    (directory / "readers.json").write_text(json.dumps({"version": 1, "readers": readers}))
    try:
        ReadersFile(directory).load()
    except StateError:
        assert (directory / "readers.json.damaged").exists()


LATER = b'{"version":2,"cards":[]}'


async def test_a_later_version_stays_untouched(tmp_path: Path) -> None:
    readers_file, path = ReadersFile(tmp_path), tmp_path / "readers.json"
    path.write_bytes(LATER)
    with pytest.raises(StateError, match="is of version 2, from a later vccid") as told:
        readers_file.load()
    assert "start that vccid again" in told.value.hint
    with pytest.raises(StateError, match="is of version 2"):
        await readers_file.save(ENTRIES)
    assert path.read_bytes() == LATER
    assert [entry.name for entry in tmp_path.iterdir()] == ["readers.json"]
    path.rename(tmp_path / "elsewhere")
    await readers_file.save(ENTRIES)
    assert readers_file.load() == ENTRIES


async def test_a_file_that_could_not_be_read_is_not_replaced(tmp_path: Path) -> None:
    readers_file, path = ReadersFile(tmp_path), tmp_path / "readers.json"
    path.symlink_to(tmp_path / "loop")
    (tmp_path / "loop").symlink_to(path)
    with pytest.raises(StateError, match="cannot be read: Too many levels"):
        readers_file.load()
    with pytest.raises(StateError, match="cannot be read: Too many levels"):
        await readers_file.save(ENTRIES)
    assert path.is_symlink()


@pytest.mark.parametrize("kind", ["pipe", "link to nothing"])
async def test_what_is_no_file_stays_untouched(tmp_path: Path, kind: str) -> None:
    readers_file, path = ReadersFile(tmp_path), tmp_path / "readers.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "unmounted" / "readers.json")
    before = path.lstat().st_ino
    with pytest.raises(StateError, match="is no file|leads nowhere"):
        readers_file.load()
    with pytest.raises(StateError, match="is no file|leads nowhere"):
        await readers_file.save(ENTRIES)
    assert path.lstat().st_ino == before


async def test_a_state_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"readers\.json cannot be written: No such file"):
        await ReadersFile(tmp_path / "gone").save(ENTRIES)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "readers.json").mkdir()
    with pytest.raises(StateError, match="cannot be read: Is a directory"):
        ReadersFile(tmp_path).load()
