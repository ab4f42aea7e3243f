# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where can be mounted, and what is said where not. Mounting itself: tests/vm/test_files.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from vccid.files import mount
from vccid.files.mount import MountFailed


@pytest.fixture(autouse=True)
def everything_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine with fuse3 and an open /dev/fuse."""
    device = tmp_path / "device"
    device.touch()
    monkeypatch.setattr(mount, "_DEVICE", device)
    monkeypatch.setattr(mount, "fusermount3", lambda: "/bin/false")


def test_an_empty_directory_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "cards").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert mount.prepare(Path("link/cards")) == tmp_path / "real" / "cards"


def test_directories_that_are_not(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for name, words in {
        "no": "there is no directory",
        "full": "is not empty",
        "full/file": "Not a directory",
    }.items():
        with pytest.raises(MountFailed, match=words):
            mount.prepare(tmp_path / name)
    with pytest.raises(MountFailed, match=r"something else is mounted at /proc \(proc\)"):
        mount.prepare(Path("/proc"))


def test_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "_DEVICE", tmp_path / "no")
    with pytest.raises(MountFailed, match="there is no") as caught:
        mount.prepare(tmp_path)
    assert "modprobe fuse" in caught.value.hint


def test_what_is_mounted_is_found_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "22 1 0:20 / /mnt/my\\040cards ro - fuse.sshfs a ro\n"
        "23 22 0:21 / /mnt/my\\040cards ro shared:1 - fuse.vccid vccid ro\n"
        "24 1 0:22 / /mnt/\\134 rw master:2 propagate_from:1 - tmpfs - rw\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda path, **how: lines)
    assert mount.mounted_there(Path("/mnt/my cards")) == "fuse.vccid"
    assert mount.mounted_there(Path("/mnt/\\")) == "tmpfs"
    assert mount.mounted_there(Path("/mnt")) is None


def test_fusermount3_that_does_not_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "fusermount3"
    script.write_text("#!/bin/sh\necho 'fusermount3: mount failed: Out of luck' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(mount, "fusermount3", lambda: str(script))
    with pytest.raises(MountFailed, match="cannot be mounted on: mount failed: Out of luck"):
        mount.mount(tmp_path)
