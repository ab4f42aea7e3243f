# SPDX-License-Identifier: LGPL-2.1-or-later
"""RPM and Arch's packages, installed into empty roots, have what Debian's have."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import build

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="installs into a root, which takes root"),
    pytest.mark.timeout(600),
]

PYTHON = f"usr/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages/"

#: Where Debian has what others have elsewhere.
ELSEWHERE = (
    (r"^usr/lib/python3/dist-packages/", PYTHON),
    (r"^lib/(systemd|udev)/", r"usr/lib/\1/"),
    (r"^usr/share/zsh/vendor-completions/", "usr/share/zsh/site-functions/"),
    (r"^(usr/share/(?:doc|man)/.*)\.gz$", r"\1"),
)
#: What its own rules have each distribution carry, or not; and what each keeps of a package.
DEBIAN_ONLY = (
    r"usr/share/doc/[^/]+/(changelog|copyright)",
    r"usr/share/lintian/.*",
    r".*\.dist-info/(RECORD|INSTALLER|(licenses/)?LICENSE)",
)
OTHERS_ONLY = (
    r"usr/share/licenses/.*",
    r".*\.dist-info/(licenses/)?LICENSE",
    r"usr/share/selinux/.*",
    r"var/lib/(rpm|pacman)/.*",
    r"\.(BUILDINFO|MTREE|PKGINFO)",
)
#: Compiled; of another folder; told, or made, by the tool that built it.
OF_ITS_OWN = (
    r".*\.so",
    r"etc/reader\.conf\.d/vccid",
    r".*\.dist-info/(METADATA|WHEEL)",
    r"usr/bin/vccid(ctl)?",
)

Files = dict[str, tuple[int, bytes | None]]


def files(root: Path, leave_out: tuple[str, ...]) -> Files:
    """Of a root: each file's place as others than Debian have it, its mode and its content."""
    return dict(_files(root, leave_out))


def _files(
    root: Path, leave_out: tuple[str, ...]
) -> Iterator[tuple[str, tuple[int, bytes | None]]]:
    for path in root.rglob("*"):
        if not path.is_file():
            continue
        name = str(path.relative_to(root))
        for pattern, place in ELSEWHERE:
            name = re.sub(pattern, place, name)
        if any(re.fullmatch(pattern, name) for pattern in leave_out):
            continue
        content: bytes | None = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content or b"")
        if any(re.fullmatch(pattern, name) for pattern in OF_ITS_OWN):
            content = None
        yield name.replace("usr/lib64/", "usr/lib/"), (path.stat().st_mode & 0o7777, content)


def checked(*command: str | Path) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def debian(debian_packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What Debian's two packages install."""
    root = tmp_path_factory.mktemp("debian")
    for package in debian_packages.glob("*.deb"):
        if "dbgsym" not in package.name:
            checked("dpkg-deb", "--extract", package, root)
    return files(root, DEBIAN_ONLY)


def assert_same(there: Files, debian: Files) -> None:
    assert sorted(there) == sorted(debian)
    assert [name for name in there if there[name] != debian[name]] == []


def test_rpm_packages_have_the_files_of_debian_s(debian: Files, tmp_path: Path) -> None:
    packages = build("rpm", tmp_path / "rpm")
    binary = [path for path in packages.glob("*.rpm") if ".src." not in path.name]
    assert len(binary) == 3
    root = tmp_path / "root"
    root.mkdir()
    checked(
        "rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--nodeps", "--noscripts", "--install",
        *binary,
    )  # fmt: skip
    assert_same(files(root, OTHERS_ONLY), debian)
    assert (root / "usr/lib64/pcsc/drivers/serial/libifdvccid.so").is_file()
    record = (root / "etc/reader.conf.d/vccid").read_text()
    assert "LIBPATH /usr/lib64/pcsc/drivers/serial/libifdvccid.so" in record
    assert (root / "usr/share/selinux/packages/targeted/vccid.pp.bz2").is_file()


def test_arch_s_packages_have_the_files_of_debian_s(debian: Files, tmp_path: Path) -> None:
    packages = build("arch", tmp_path / "arch")
    root = tmp_path / "root"
    (root / "var/lib/pacman").mkdir(parents=True)
    checked(
        "pacman", "--root", root, "--dbpath", root / "var/lib/pacman", "--noconfirm", "-Udd",
        "--noscriptlet", *packages.glob("*.pkg.tar.zst"),
    )  # fmt: skip
    assert_same(files(root, OTHERS_ONLY), debian)
    record = (root / "etc/reader.conf.d/vccid").read_text()
    assert "LIBPATH /usr/lib/pcsc/drivers/serial/libifdvccid.so" in record
