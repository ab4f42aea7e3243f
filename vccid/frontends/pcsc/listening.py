# SPDX-License-Identifier: LGPL-2.1-or-later
"""A listening unix socket at a path that everybody may dial; who is served is asked then."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from vccid.errors import ConfigError


def listen_at(path: Path) -> socket.socket:
    """A listening socket at `path`, in place of one that a killed daemon left.

    Raises:
        ConfigError: another daemon listens there, or the path cannot be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        # Open to connect, since no one mode suits all: pcscd is root, root without the right to
        # pass over modes (Debian 13), or user pcscd. The kernel's word on the peer decides.
        path.chmod(0o666)
        listener.listen()
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {path}: {error.strerror or error}",
            "name a directory the daemon may write to, with a path of at most 107 bytes",
        ) from error
    except ConfigError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} is in the way: it is no socket", "move it elsewhere")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody listens
    raise ConfigError(
        f"another daemon listens on {path}", "stop it, or give this one another RUNTIME_DIRECTORY"
    )
