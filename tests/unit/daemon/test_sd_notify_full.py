# SPDX-License-Identifier: LGPL-2.1-or-later
"""A service manager that does not read."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from vccid.daemon.sd_notify import Notifier


@pytest.mark.timeout(10)
def test_a_manager_that_stopped_reading_does_not_stop_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier()
        notifier.ready("as good as new")
        for number in range(10_000):  # far more than net.unix.max_dgram_qlen
            notifier.status(str(number))
        assert manager.recv(100) == b"READY=1\nSTATUS=as good as new"
