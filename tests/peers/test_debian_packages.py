# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packages by Debian's own judge, and built twice. Installed: tests/vm/test_deb.py."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path

import pytest

from tests.debian_packages import build

#: A build by another user, elsewhere on earth.
ELSEWHERE = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "HOME": "/nonexistent", "LOGNAME": "other"}


def hashes(directory: Path) -> dict[str, str]:
    """Of what the same sources must always give: the packages and the source's tarball."""
    files = [*directory.glob("*.deb"), *directory.glob("*.tar.xz")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.timeout(600)
def test_two_builds_give_the_same_bytes(debian_packages: Path, tmp_path: Path) -> None:
    other = tmp_path / "at" / "another" / "place"
    build(other, {**ELSEWHERE, "TMPDIR": str(tmp_path)}, umask=0o077)
    assert len(hashes(other)) == 4
    assert hashes(other) == hashes(debian_packages)


@pytest.mark.timeout(600)
def test_lintian_has_nothing_to_say(debian_packages: Path) -> None:
    (changes,) = debian_packages.glob("*.changes")
    # The packages are one for Debian 12 and 13: the later lintian no longer knows a tag that the
    # earlier wants overridden, and which version of the policy is current is each one's own.
    later = int(platform.freedesktop_os_release()["VERSION_ID"]) > 12
    older_tags = ["--suppress-tags", "alien-tag,out-of-date-standards-version"] if later else []
    said = subprocess.run(
        ["lintian", "--pedantic", "--display-info", "--allow-root", *older_tags, changes],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert (said.returncode, said.stdout) == (0, "")
