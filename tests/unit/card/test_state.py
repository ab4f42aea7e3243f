# SPDX-License-Identifier: LGPL-2.1-or-later
"""The PIN state on disk."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from vccid.card.state import PinHash, PinState, StateStore
from vccid.errors import StateError

SERIAL = "00112233445566778899aabbccdd"
STATE = PinState(2, PinHash(bytes(16), bytes(32), 1 << 14, 8, 1), factory=True)


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "state" / "cards")


def test_what_was_saved_is_loaded(store: StateStore) -> None:
    assert store.load(SERIAL) is None
    for state in (STATE, PinState(3), PinState(0)):
        store.save(SERIAL, state)
        assert store.load(SERIAL) == state
        assert StateStore(store.directory).load(SERIAL) == state
    assert [path.name for path in store.directory.iterdir()] == [f"{SERIAL}.json"]


def test_for_the_daemon_alone(store: StateStore) -> None:
    old = os.umask(0)
    try:
        store.save(SERIAL, STATE)
    finally:
        os.umask(old)
    assert stat.S_IMODE(store.path(SERIAL).stat().st_mode) == 0o600
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("serial", ["", "../x", "00/11", "zz", "00.json"])
def test_no_path_from_a_serial(store: StateStore, serial: str) -> None:
    with pytest.raises(ValueError):
        store.load(serial)


def test_each_cut_is_an_error(store: StateStore) -> None:
    """A file cut short anywhere is damaged, never a state."""
    store.save(SERIAL, STATE)
    whole = store.path(SERIAL).read_bytes()
    for count in range(len(whole.rstrip())):
        store.path(SERIAL).write_bytes(whole[:count])
        with pytest.raises(StateError, match="damaged") as caught:
            store.load(SERIAL)
        assert "pin reset" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"tries_left": 4},
        {"tries_left": -1},
        {"tries_left": True},
        {"tries_left": 2.0},
        {"tries_left": None},
        {"version": 0},
        {"version": "1"},
        {"factory": 1},
        {"pin": 5},
        {"pin": {}},
        {"pin": {"salt": "00" * 16, "digest": "00" * 32, "n": 3, "r": 8, "p": 1}},
        {"pin": {"salt": "00" * 16, "digest": "00" * 31, "n": 2, "r": 8, "p": 1}},
        {"pin": {"salt": "00" * 16, "digest": "xx" * 32, "n": 2, "r": 8, "p": 1}},
        {"pin": {"salt": "00" * 16, "digest": "00" * 32, "n": 1 << 40, "r": 8, "p": 1}},
    ],
)
def test_values_out_of_range(store: StateStore, change: dict[str, object]) -> None:
    store.save(SERIAL, STATE)
    content = json.loads(store.path(SERIAL).read_bytes())
    store.path(SERIAL).write_text(json.dumps(content | change))
    with pytest.raises(StateError, match="damaged"):
        store.load(SERIAL)


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"\xff\xfe", b"3", b"{}", b"[" * 9_999], ids=len
)
def test_garbage(store: StateStore, raw: bytes) -> None:
    store.path(SERIAL).write_bytes(raw)
    with pytest.raises(StateError, match="damaged"):
        store.load(SERIAL)


def test_a_later_version_is_left_alone(store: StateStore) -> None:
    store.path(SERIAL).write_text('{"version": 2, "other": 1}')
    with pytest.raises(StateError, match="version 2") as caught:
        store.load(SERIAL)
    assert "later vccid" in caught.value.message and "pin reset" in caught.value.hint
    assert store.path(SERIAL).read_text() == '{"version": 2, "other": 1}'


def test_a_full_disk_leaves_the_old_state(store: StateStore) -> None:
    """/dev/full is the real thing: every write to it is ENOSPC."""
    store.save(SERIAL, STATE)
    new = store.path(SERIAL).with_suffix(".new")
    new.symlink_to("/dev/full")
    with pytest.raises(StateError):  # a symbolic link is not followed
        store.save(SERIAL, PinState(1))
    assert not new.is_symlink()
    assert store.load(SERIAL) == STATE


def test_synced_before_and_behind_the_rename(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is on the disk before it has the name, and the name before `save` returns."""
    order: list[str] = []
    sync, rename = os.fsync, os.rename

    def spied_sync(descriptor: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def spied_rename(source: Path, target: Path) -> None:
        order.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", spied_sync)
    monkeypatch.setattr(os, "rename", spied_rename)
    store.save(SERIAL, STATE)
    assert order == ["file", "rename", "folder"]


def test_an_unwritable_folder(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(SERIAL, STATE)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left") as caught:
        store.save(SERIAL, PinState(1))
    assert str(store.directory) in caught.value.hint
    assert store.load(SERIAL) == STATE


@pytest.mark.parametrize("old", [STATE, None])
def test_what_is_told_to_have_failed_has_not_happened(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, old: PinState | None
) -> None:
    """Where the folder is not synced the new file has its name already; it gives it back."""
    if old is not None:
        store.save(SERIAL, old)
    sync = os.fsync

    def fail_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(StateError, match="Input/output error"):
        store.save(SERIAL, PinState(1))
    assert store.load(SERIAL) == old
    assert len(list(store.directory.iterdir())) == (old is not None)


def test_what_cannot_be_read_is_never_removed(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no way back to it then, and no file would mean all tries again."""
    store.save(SERIAL, PinState(0))

    def fail(*anything: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    monkeypatch.setattr("vccid.card.state._sync_folder", fail)
    with pytest.raises(StateError, match="Input/output error"):
        store.save(SERIAL, PinState(1))
    assert store.path(SERIAL).exists()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be made"):
        StateStore(tmp_path / "file" / "cards")


def test_one_lock_for_each_serial(store: StateStore) -> None:
    first = store.lock(SERIAL)
    assert store.lock(SERIAL) is first and store.lock("00") is not first
