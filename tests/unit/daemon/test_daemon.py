# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's life where something fails that nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from vccid.daemon.daemon import Daemon
from vccid.links.own_file import OwnFile
from vccid.settings.config import Settings
from vccid.settings.directories import Directories


class Notifier:
    def __init__(self) -> None:
        self.said: list[str] = []

    def ready(self, status: str) -> None:
        self.said.append(status)

    def reloading(self) -> None:
        self.said.append("reloading")

    def stopping(self) -> None:
        self.said.append("stopping")


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    places = Directories(tmp_path, tmp_path, tmp_path, None)
    daemon = Daemon(places, Settings(), {}, ())
    daemon._notifier = Notifier()  # type: ignore[assignment]
    return daemon


async def fail() -> None:
    raise RuntimeError("can't start new thread")


async def test_a_reload_that_fails_is_told_and_ends(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon._manager, "apply", lambda settings: fail())
    await daemon._reload()
    assert daemon._notifier.said == [  # type: ignore[attr-defined]
        "reloading",
        "settings not read: something unexpected went wrong: RuntimeError: can't start new thread",
    ]
    assert "Traceback" in caplog.text


async def test_work_that_fails_is_logged(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    daemon._begin(fail(), "restore")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert "restore: can't start new thread" in caplog.text


async def test_the_end_goes_on_past_what_fails(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    daemon._directories.control.touch()
    daemon._socket._file = OwnFile(daemon._directories.control)
    monkeypatch.setattr(daemon._control, "stop", fail)
    stopped = []

    async def stop() -> None:
        stopped.append(True)

    monkeypatch.setattr(daemon._manager, "stop", stop)
    await daemon._end()
    assert stopped and not daemon._directories.control.exists()
    assert "can't start new thread" in caplog.text
