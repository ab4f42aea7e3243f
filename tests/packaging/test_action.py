# SPDX-License-Identifier: LGPL-2.1-or-later
"""The GitHub action's steps, run by bash as GitHub's runner runs them.

`shell: bash` is `bash --noprofile --norc -e -o pipefail FILE`. What a step adds to GITHUB_ENV and
GITHUB_PATH is in the environment of the next.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.peers.user import wait_for

from .conftest import CHECKOUT

BASH = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
pytestmark = pytest.mark.timeout(300)


class Runner:
    """A job: its folders, and the process whose name the runner's has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {
            f"GITHUB_{name}": str(folder / name.lower()) for name in ("ENV", "PATH", "OUTPUT")
        }
        for name in self._files.values():
            Path(name).touch()
        self._worker = folder / "Runner.Worker"
        self._worker.symlink_to(shutil.which("bash") or "/bin/bash")
        self.process = subprocess.Popen(
            [self._worker, "-c", 'while read -r script; do bash "$script"; echo "ended $?"; done'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def action(self, where: Path, inputs: dict[str, str], leave_out: tuple[str, ...] = ()) -> str:
        """Run the steps of an action; what they printed."""
        action = yaml.safe_load((where / "action.yml").read_text())
        given = {name: one["default"] for name, one in action["inputs"].items()} | inputs
        return "".join(
            self.step(step["run"], self._filled(step.get("env", {}), given))
            for step in action["runs"]["steps"]
            if "run" in step and step["id"] not in leave_out
        )

    def step(self, script: str, environment: dict[str, str]) -> str:
        """One step; what it printed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        exported = self._environment() | environment
        body, wrapper = self._folder / "step.sh", self._folder / "wrapper.sh"
        body.write_text(script)
        settings = "".join(f"export {k}={_quoted(v)}\n" for k, v in exported.items())
        wrapper.write_text(f"{settings}{' '.join(BASH)} {body}\n")
        self.process.stdin.write(f"{wrapper}\n")
        self.process.stdin.flush()
        said = ""
        for line in self.process.stdout:
            if ended := re.fullmatch(r"ended (\d+)\n", line):
                assert ended[1] == "0", said
                return said
            said += line
        raise AssertionError(f"the job ended: {said}")

    def outputs(self) -> dict[str, str]:
        return _pairs(Path(self._files["GITHUB_OUTPUT"]))

    def _filled(self, environment: dict[str, str], inputs: dict[str, str]) -> dict[str, str]:
        return {
            name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: inputs[found[1]], value)
            for name, value in environment.items()
        }

    def _environment(self) -> dict[str, str]:
        added = Path(self._files["GITHUB_PATH"]).read_text().split()
        return {
            **self._files,
            **_pairs(Path(self._files["GITHUB_ENV"])),
            "RUNNER_TEMP": str(self._folder),
            "PATH": os.pathsep.join([*reversed(added), os.environ["PATH"]]),
        }


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _pairs(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    job = Runner(tmp_path)
    # Stands for what pip would install; tests/packaging/test_pip.py has that.
    (tmp_path / "vccid" / "bin").mkdir(parents=True)
    for name in ("vccid", "vccidctl"):
        (tmp_path / "vccid/bin" / name).symlink_to(Path(sys.executable).with_name(name))
    Path(tmp_path / "path").write_text(f"{tmp_path / 'vccid/bin'}\n")
    yield job
    job.end()


def test_a_job_has_a_card_until_it_is_stopped_and_keeps_the_log(runner: Runner) -> None:
    runner.action(CHECKOUT, {"card": "piv", "readers": "2"}, leave_out=("install",))
    said = runner.step("opensc-tool --list-readers; opensc-tool --name", {})
    assert "vccid vccid1 01 00" in said and "Personal Identity Verification" in said
    said = runner.action(CHECKOUT / "stop", {})
    assert "::group::Log of vccid" in said
    log = Path(runner.outputs()["log"])
    assert log.stat().st_size > 0 and log.read_text() in said
    assert "No smart card readers" in runner.step("opensc-tool --list-readers 2>&1 || true", {})


def test_a_job_that_nobody_stopped_takes_its_card_along(runner: Runner) -> None:
    runner.action(CHECKOUT, {"card": "none"}, leave_out=("install",))
    folder = Path(runner.step('echo "$VCCID_RUN"', {}).strip())
    assert folder.is_dir()
    runner.end()
    wait_for(lambda: not folder.exists(), lambda: list(folder.iterdir()))


def test_what_was_never_started_need_not_be_stopped(runner: Runner) -> None:
    assert "no virtual smart card" in runner.action(CHECKOUT / "stop", {})


def test_the_action_s_own_sources_are_installed_and_no_other_version(
    runner: Runner, tmp_path: Path
) -> None:
    """By a pip that tells what it was asked for."""
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nfor word; do :; done; echo "asked for $word"\n')
    pip.chmod(0o755)
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nmkdir -p "$3/bin"; cp {pip} "$3/bin/pip"\n')
    python.chmod(0o755)
    action = yaml.safe_load((CHECKOUT / "action.yml").read_text())
    install = action["runs"]["steps"][0]["run"]
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "GITHUB_ACTION_PATH": str(CHECKOUT),
        "VERSION": "",
    }
    assert f"asked for {CHECKOUT}\n" in runner.step(install, environment)
    assert "asked for vccid==0.1\n" in runner.step(install, {**environment, "VERSION": "0.1"})
