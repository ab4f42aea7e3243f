# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a user writes for certificates and secrets, before any daemon hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vccid.ctl import secrets
from vccid.ctl.items import absolute_database, absolute_item, split_items
from vccid.errors import ConfigError


def test_items_are_divided_by_commas_but_for_escaped_ones() -> None:
    assert split_items(r"cert1,Doe\, Jane, cert3,") == ["cert1", "Doe, Jane", "cert3"]
    assert split_items("/a\u00a0,\u00a0") == ["/a\u00a0", "\u00a0"], "a name may end in any blank"


def test_only_files_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "id.pem").write_bytes(b"")
    assert absolute_item("id.pem") == str(tmp_path / "id.pem")
    assert absolute_item("./keys/sign.p12") == str(tmp_path / "keys/sign.p12")
    assert absolute_item("missing.pem") == "missing.pem"
    assert absolute_item("cert1") == "cert1"
    assert absolute_item("pkcs11:token=a/b") == "pkcs11:token=a/b"
    assert absolute_item("NSS Certificate DB:a/b") == "NSS Certificate DB:a/b"


def test_a_database_keeps_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_database("sql:nssdb") == f"sql:{tmp_path}/nssdb"
    assert absolute_database("nssdb") == f"{tmp_path}/nssdb"
    assert absolute_database("sql:/x/a:b") == "sql:/x/a:b"
    assert absolute_database("/x/a:b") == "/x/a:b"
    assert absolute_database("a:b") == f"{tmp_path}/a:b", "a type is one that NSS knows"


def test_a_secret_is_the_first_line_without_its_end(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.write_bytes(b"12 34\r\nrest\n")
    assert secrets.from_file(file) == b"12 34"


@pytest.mark.parametrize("content", [b"", b"\n123456\n"])
def test_an_empty_first_line_is_no_secret(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pin"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="first line"):
        secrets.from_file(file)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing cannot be read: No such file"):
        secrets.from_file(tmp_path / "missing")


def test_commas_and_blanks_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a, b.pem", "c.pem ", "d,e,f.p12"):
        (tmp_path / name).touch()
    assert split_items("cert1, ./a, b.pem,cert2") == ["cert1", "./a, b.pem", "cert2"]
    assert split_items("a, b.pem,d,e,f.p12#two") == ["a, b.pem", "d,e,f.p12#two"]
    assert split_items("./c.pem ,cert1 ") == ["./c.pem ", "cert1"]
    assert split_items("./no,such.pem") == ["./no", "such.pem"]
    assert absolute_item("d,e,f.p12#two") == f"{tmp_path}/d,e,f.p12#two"


def test_a_home_that_no_shell_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute_database("sql:~/nssdb") == f"sql:{tmp_path}/nssdb"
    assert absolute_database("~/nssdb") == f"{tmp_path}/nssdb"
    assert absolute_item("~/a.pem") == f"{tmp_path}/a.pem"


def test_a_colon_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_database("sql:/a:b") == "sql:/a:b"
    assert absolute_database("/a:b") == "/a:b"
    assert absolute_database("a:b") == f"{tmp_path}/a:b"
