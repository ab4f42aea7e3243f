# SPDX-License-Identifier: LGPL-2.1-or-later
"""The units, as systemd's own tools read them; tests/vm starts them under a real systemd."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.peers.daemon import BIN

UNITS = Path(__file__).parents[2] / "systemd"

#: systemd's measure, 0 (closed) to 10 (wide open).
MOST_EXPOSED = 1.5


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units with the command of this tree, which verify insists on finding."""
    for name in ("vccid.service", "vccid.socket"):
        text = (UNITS / name).read_text().replace("/usr/bin/vccid", str(BIN / "vccid"))
        (tmp_path / name).write_text(text)
    return [tmp_path / "vccid.service", tmp_path / "vccid.socket"]


def analyze(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_understands_every_line(units: list[Path]) -> None:
    assert analyze("verify", "--man=no", *units) == ""


def test_a_line_it_does_not_understand_would_be_told(units: list[Path]) -> None:
    units[0].write_text(units[0].read_text().replace("[Service]", "[Service]\nNonsense=yes"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Nonsense" in done.stderr


def test_the_sandbox_is_tight(units: list[Path]) -> None:
    text = analyze("security", "--offline=yes", "--no-pager", units[0])
    level = re.search(r"Overall exposure level for vccid\.service: ([\d.]+)", text)
    assert level is not None, text
    assert float(level[1]) <= MOST_EXPOSED, text


def test_apparmor_understands_the_profile_that_the_unit_names() -> None:
    assert "AppArmorProfile=-vccid\n" in (UNITS / "vccid.service").read_text()
    # Parsed with the abstractions of this Debian; nothing is loaded.
    done = subprocess.run(
        ["/usr/sbin/apparmor_parser", "--names", UNITS / "vccid.apparmor"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["vccid"], done.stderr


def test_the_user_and_the_group_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", UNITS / "vccid.sysusers"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^vccid:x:", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)
    assert re.search(r"^vccid:x:", (tmp_path / "etc/group").read_text(), re.MULTILINE)
