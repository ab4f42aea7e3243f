# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the daemon's files are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vccid.errors import ConfigError
from vccid.settings.directories import Directories, find

HOME = {"HOME": "/home/ada", "XDG_RUNTIME_DIR": "/run/user/7"}


def test_root_has_the_systems() -> None:
    assert find({"HOME": "/root", "XDG_RUNTIME_DIR": "/run/user/0"}, 0) == Directories(
        Path("/run/vccid"), Path("/var/lib/vccid"), Path("/etc/vccid"), None
    )


def test_a_user_has_their_own() -> None:
    places = find(HOME, 7)
    assert places == Directories(
        Path("/run/user/7/vccid"),
        Path("/home/ada/.local/state/vccid"),
        Path("/home/ada/.config/vccid"),
        None,
    )
    assert places.control == Path("/run/user/7/vccid/control")
    moved = find({**HOME, "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"}, 7)
    assert (moved.state, moved.configuration) == (Path("/s/vccid"), Path("/c/vccid"))


def test_systemd_has_the_say_and_an_option_more() -> None:
    environ = {
        **HOME,
        "RUNTIME_DIRECTORY": "/run/vccid:/run/more",
        "STATE_DIRECTORY": "/var/lib/private/vccid",
        "CONFIGURATION_DIRECTORY": "/etc/vccid",
        "CREDENTIALS_DIRECTORY": "/run/credentials/vccid.service",
    }
    assert find(environ, 7) == Directories(
        Path("/run/vccid"),
        Path("/var/lib/private/vccid"),
        Path("/etc/vccid"),
        Path("/run/credentials/vccid.service"),
    )
    named = find(environ, 7, Path("/1"), Path("/2"), Path("/3"))
    assert (named.runtime, named.state, named.configuration) == (Path("/1"), Path("/2"), Path("/3"))


def test_a_user_without_a_runtime_directory_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR") as caught:
        find({"HOME": "/home/ada"}, 7)
    assert "--runtime-directory" in caught.value.hint
    assert find({"HOME": "/home/ada"}, 7, Path("/x")).runtime == Path("/x")


def test_a_relative_path_of_xdg_counts_as_none() -> None:
    """XDG Base Directory 0.8, "Environment variables"."""
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR is no absolute path"):
        find({**HOME, "XDG_RUNTIME_DIR": "run"}, 7)
    places = find({**HOME, "XDG_STATE_HOME": "s", "XDG_CONFIG_HOME": "./c"}, 7)
    assert places.state == Path("/home/ada/.local/state/vccid")
    assert places.configuration == Path("/home/ada/.config/vccid")


def test_state_is_made_for_the_daemon_alone(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        Directories(tmp_path / "r", tmp_path / "a/s", tmp_path / "c", None).create()
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a/s").stat().st_mode) == 0o700
    assert not (tmp_path / "c").exists()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/r cannot be made: Not a directory"):
        Directories(tmp_path / "file/r", tmp_path / "s", tmp_path / "c", None).create()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o775, 0o2770])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r").chmod(mode)
    with pytest.raises(ConfigError, match=rf"/r is open to others \(mode {mode:04o}"):
        Directories(tmp_path / "r", tmp_path / "s", tmp_path / "c", None).create()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    os.chown(tmp_path / "s", 65534, -1)
    with pytest.raises(ConfigError, match=r"/s is open to others .* owner 65534\)"):
        Directories(tmp_path / "r", tmp_path / "s", tmp_path / "c", None).create()


def test_a_name_that_no_answer_could_tell_is_refused(tmp_path: Path) -> None:
    name = tmp_path / "s\udcff"
    with pytest.raises(ConfigError, match=r"s\\xff has a name that is no UTF-8"):
        Directories(tmp_path / "r", name, tmp_path / "c", None).create()
    assert not name.exists()
