# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds for the whole test run: where a full machine is promised, nothing is skipped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import answers
from tests import debian_packages as packages
from tests.docs.doors import Held


@pytest.fixture(scope="session")
def debian_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the Debian packages of this checkout."""
    directory = tmp_path_factory.mktemp("deb")
    packages.build(directory)
    return directory


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who runs tests side by side (`--dist loadgroup`) parts them so: each module of guests by
    itself, and all else together, since it shares this host's pcscd and ports."""
    for item in items:
        group = item.path.stem if item.path.parent.name == "vm" else "host"
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Say in words which command was answered otherwise than it should have been."""
    return answers.told(left, right) if op == "==" else None


def pytest_configure() -> None:
    """Let SIGINT and SIGHUP reach the programs under test, though a shell that ran this in the
    background, or nohup, has them ignored, which children would inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


#: Of this run; with xdist, the workers' reports come here too.
HELD = Held()

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("vccid", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vccid")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the conversations that a test held, wherever it ran."""
    if report.when == "call" and report.passed:
        HELD.take(report.user_properties)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table of doors after a run over all of them; and fail a CI run that skipped a test,
    since there everything a test needs can be installed."""
    if HELD.is_whole and not hasattr(session.config, "workerinput"):
        HELD.write()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if skipped and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = len(terminalreporter.stats.get("skipped", []))
    if skipped and os.environ.get("CI") == "true":
        terminalreporter.write_line(f"CI must skip no test; {skipped} skipped", red=True)
