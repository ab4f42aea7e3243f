# SPDX-License-Identifier: LGPL-2.1-or-later
"""libcrypto is found by what is there, and a system without is told what to do."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from vccid import openssl_library


def said(names: list[str], expression: str, folder: Path) -> str:
    """What Python says of an expression where libcrypto may have these names only."""
    script = (
        "import sys; sys.modules['_hashlib'] = None\n"
        "from vccid import openssl_library, openssl_legacy\n"
        "from vccid.errors import VccidError\n"
        f"openssl_library._NAMES = {names!r}\n"
        f"try: print({expression})\n"
        "except VccidError as error: print(error.message, error.hint, sep='; ')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script],
        env={"LD_LIBRARY_PATH": str(folder)}, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """A folder with a libcrypto.so.4."""
    ctypes.CDLL(openssl_library.name())
    maps = Path("/proc/self/maps").read_text()
    (ours,) = {line.split()[-1] for line in maps.splitlines() if "/libcrypto.so" in line}
    (tmp_path / "libcrypto.so.4").symlink_to(ours)
    return tmp_path


def test_a_later_one_is_taken_where_it_is_the_only_one(later: Path) -> None:
    names = ["libcrypto.so.0", "libcrypto.so.4", "libcrypto.so.5"]
    assert said(names, "openssl_library.name()", later) == "libcrypto.so.4"


def test_without_any_vccid_says_what_to_install(tmp_path: Path) -> None:
    told = said(["libcrypto.so.0"], "openssl_library.name()", tmp_path)
    assert told.startswith("OpenSSL's library libcrypto") and "libssl3" in told
    assert said(["libcrypto.so.0"], "openssl_legacy.do_without()", tmp_path) == "None"


def test_python_s_own_is_preferred() -> None:
    assert openssl_library.name() in Path("/proc/self/maps").read_text()
