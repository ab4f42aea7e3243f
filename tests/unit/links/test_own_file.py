# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is removed at the end, and what is not."""

from __future__ import annotations

import socket
from pathlib import Path

from vccid.links.own_file import OwnFile


def test_only_what_was_made_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.bind(str(path))
        own = OwnFile(path)
        path.rename(tmp_path / "aside")
        own.remove()
        second.bind(str(path))
        own.remove()
        assert path.is_socket(), "another daemon's"
        (tmp_path / "aside").rename(path)
        own.remove()
        assert not path.exists()
