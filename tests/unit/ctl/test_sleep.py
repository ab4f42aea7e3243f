# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd/vccid-sleep with a daemon that refuses; tests/vm has it with a real one."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vccid.ctl.client import DaemonError, NoDaemon
from vccid.errors import VccidError

SCRIPT = Path(__file__).parents[3] / "systemd" / "vccid-sleep"
VHCI = {"kind": "vhci", "up": True}


class Daemon:
    """What the script calls. Detaching and attaching fail for the readers in `errors`."""

    def __init__(self, *names: str) -> None:
        self.readers = [{"name": name, "frontends": [VHCI]} for name in names]
        self.errors: dict[str, VccidError] = {}
        self.calls: list[tuple[str, str]] = []

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        if parameters is None:
            return {"readers": self.readers}
        assert parameters["kind"] == "vhci"
        name = parameters["reader"]
        self.calls.append((method, name))
        if name in self.errors:
            raise self.errors[name]
        return {}


@pytest.fixture
def daemon() -> Daemon:
    return Daemon("one", "two", "three")


@pytest.fixture
def script(daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = spec_from_loader("vccid_sleep", SourceFileLoader("vccid_sleep", str(SCRIPT)))
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "Client", lambda path, patience: daemon)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return script


def run(script: ModuleType, verb: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """What goes to sys.exit: None, or what went wrong."""
    monkeypatch.setattr(sys, "argv", ["vccid-sleep", verb])
    return script.main()


def calls(method: str, *names: str) -> list[tuple[str, str]]:
    return [(method, name) for name in names]


def test_what_is_at_vhci_leaves_and_comes_again(
    script: ModuleType, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.readers[0]["frontends"] = [{"kind": "usbip", "up": True}]
    daemon.readers[1]["frontends"] = [{"kind": "vhci", "up": False}]
    assert run(script, "detach", monkeypatch) is None
    assert run(script, "attach", monkeypatch) is None
    assert run(script, "attach", monkeypatch) is None
    assert daemon.calls == [("Detach", "three"), ("Attach", "three")]


@pytest.mark.parametrize("verb", ["detach", "attach"])
def test_one_that_fails_keeps_no_other_from_it(
    script: ModuleType, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    if verb == "attach":
        run(script, "detach", monkeypatch)
        daemon.calls.clear()
    daemon.errors = {
        "one": DaemonError("ReaderError", "no such reader", ""),
        "two": DaemonError("ReaderError", "no port is free", ""),
    }
    said = run(script, verb, monkeypatch)
    assert said == "vccid-sleep: one: no such reader; two: no port is free"
    assert daemon.calls == calls(verb.capitalize(), "one", "two", "three")


def test_those_that_failed_come_again_too(
    script: ModuleType, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.errors = {"two": DaemonError("ReaderError", "it did not leave", "")}
    run(script, "detach", monkeypatch)
    daemon.errors = {}
    daemon.calls.clear()
    assert run(script, "attach", monkeypatch) is None
    assert daemon.calls == calls("Attach", "one", "two", "three")


def test_a_daemon_that_is_gone_is_asked_once(
    script: ModuleType, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.errors = {"one": NoDaemon("the daemon closed the connection")}
    assert "closed the connection" in str(run(script, "detach", monkeypatch))
    assert daemon.calls == calls("Detach", "one")


def test_what_could_not_be_attached_is_attached_the_next_time(
    script: ModuleType, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, "detach", monkeypatch)
    daemon.errors = {
        "two": DaemonError("ReaderError", "no port is free", ""),
        "three": NoDaemon("the daemon closed the connection"),
    }
    run(script, "attach", monkeypatch)
    daemon.errors = {}
    daemon.calls.clear()
    assert run(script, "attach", monkeypatch) is None
    assert run(script, "attach", monkeypatch) is None, "nothing is left to do"
    assert daemon.calls == calls("Attach", "two", "three")


def test_another_sleep_forgets_nothing(
    script: ModuleType, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, "detach", monkeypatch)
    daemon.errors = {"one": DaemonError("ReaderError", "no port is free", "")}
    run(script, "attach", monkeypatch)
    daemon.readers[0]["frontends"] = []
    run(script, "detach", monkeypatch)
    daemon.errors = {}
    daemon.calls.clear()
    assert run(script, "attach", monkeypatch) is None
    assert daemon.calls == calls("Attach", "one", "two", "three")


def test_a_reader_that_was_removed_meanwhile_is_forgotten(
    script: ModuleType, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(script, "detach", monkeypatch)
    del daemon.readers[1]
    daemon.errors = {"two": DaemonError("ReaderError", "there is no reader two", "")}
    assert run(script, "attach", monkeypatch) == "vccid-sleep: two: there is no reader two"
    daemon.calls.clear()
    assert run(script, "attach", monkeypatch) is None
    assert daemon.calls == []
