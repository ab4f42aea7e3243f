# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the daemon's files are: as systemd says, else by the user's own defaults.

Source: systemd.exec(5), RuntimeDirectory= and LoadCredential=; XDG Base Directory 0.8.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vccid.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Directories:
    """The daemon's directories.

    Attributes:
        runtime: sockets and the lock; others may look in.
        state: PIN states and what is inserted; the daemon's alone.
        configuration: vccid.toml and vccid.toml.d.
        credentials: systemd's credentials, or None.
    """

    runtime: Path
    state: Path
    configuration: Path
    credentials: Path | None

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.runtime / "control"

    def create(self) -> None:
        """Make the runtime and state directories where they are missing.

        Raises:
            ConfigError: they cannot be made, or are open to others, or have a name that cannot
                be told in JSON.
        """
        for path in (self.runtime, self.state, self.configuration):
            _check_name(path)
        _create(self.runtime, 0o755)
        _create(self.state, 0o700)


def find(
    environ: Mapping[str, str],
    uid: int,
    runtime: Path | None = None,
    state: Path | None = None,
    configuration: Path | None = None,
) -> Directories:
    """Settle the directories: option, then systemd's variable, then the default.

    Raises:
        ConfigError: a user without XDG_RUNTIME_DIR named no runtime directory.
    """
    credentials = _first(environ, "CREDENTIALS_DIRECTORY")
    home = Path(environ.get("HOME") or "/")
    return Directories(
        runtime=(runtime or _first(environ, "RUNTIME_DIRECTORY") or _runtime(environ, uid)),
        state=state
        or _first(environ, "STATE_DIRECTORY")
        or _default(uid, "/var/lib", environ, "XDG_STATE_HOME", home / ".local/state"),
        configuration=configuration
        or _first(environ, "CONFIGURATION_DIRECTORY")
        or _default(uid, "/etc", environ, "XDG_CONFIG_HOME", home / ".config"),
        credentials=credentials,
    )


def _first(environ: Mapping[str, str], name: str) -> Path | None:
    """systemd.exec(5): several directories are joined by a colon; ours is the first."""
    value = environ.get(name, "").partition(":")[0]
    return Path(value) if value else None


def _runtime(environ: Mapping[str, str], uid: int) -> Path:
    if uid == 0:
        return Path("/run/vccid")
    base = _xdg(environ, "XDG_RUNTIME_DIR")
    if base is None:
        raise ConfigError(
            "there is no directory for the daemon's sockets: XDG_RUNTIME_DIR is no absolute path",
            "name one: vccid --runtime-directory DIRECTORY",
        )
    return base / "vccid"


def _default(uid: int, system: str, environ: Mapping[str, str], xdg: str, user: Path) -> Path:
    return (Path(system) if uid == 0 else _xdg(environ, xdg) or user) / "vccid"


def _xdg(environ: Mapping[str, str], name: str) -> Path | None:
    """XDG Base Directory 0.8: a path that is not absolute is none."""
    value = environ.get(name, "")
    return Path(value) if os.path.isabs(value) else None


def _check_name(path: Path) -> None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        name = os.fsencode(path).decode("ascii", "backslashreplace")
        raise ConfigError(
            f"directory {name} has a name that is no UTF-8", "name another (vccid --help)"
        ) from error


def _create(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise ConfigError(
            f"directory {path} cannot be made: {error.strerror}",
            "make it for the daemon's user, or name another (vccid --help)",
        ) from error
    # Whoever can write there could put a socket of their own in the place of ours.
    others = stat.S_IWGRP | stat.S_IWOTH
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & others:
        raise ConfigError(
            f"directory {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}, "
            f"owner {status.st_uid})",
            "name one that belongs to the daemon's user and that neither a group nor others "
            f"can write to: chmod go-w {path}",
        )
