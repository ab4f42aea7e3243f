# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which password a source gets, and that none is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from vccid.errors import SourceUnusable
from vccid.keys.passwords import Passwords, password_needed


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    (tmp_path / "vccid.password").write_bytes(b"general\n")
    (tmp_path / "vccid.password.nssdb").write_bytes(b"special\r\n")
    return tmp_path


def test_order(credentials: Path, tmp_path: Path) -> None:
    source = tmp_path / "pin"
    source.write_bytes(b" 12 34 \n")
    assert Passwords(b"given", credentials).find("nssdb", source) == b" 12 34 "
    assert Passwords(b"given", credentials).find("nssdb") == b"given"
    assert Passwords(None, credentials).find("nssdb") == b"special"
    assert Passwords(None, credentials).find("other") == b"general"
    assert Passwords(None, credentials).find("../vccid.password.nssdb") == b"general"
    assert Passwords(None, None).find("nssdb") is None
    assert Passwords(None, credentials / "missing").find("nssdb") is None


def test_an_empty_password_is_one(credentials: Path) -> None:
    assert Passwords(b"", credentials).find("nssdb") == b""


def test_a_pin_source_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceUnusable, match="pin-source file .* does not exist"):
        Passwords().find("token", tmp_path / "missing")


def test_no_password_is_shown() -> None:
    assert "given" not in repr(Passwords(b"given-password", None)).replace("given=", "")


def test_the_three_ways() -> None:
    error = password_needed("/etc/pki/nssdb", "nssdb")
    assert error.message == "/etc/pki/nssdb needs a password"
    assert error.hint == (
        "give it with --password-file, as the systemd credential vccid.password.nssdb,"
        " or at vccidctl's prompt"
    )
