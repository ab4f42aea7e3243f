# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nickname, URI or file: how what a user wrote is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from vccid.errors import SourceUnusable
from vccid.keys.items import CertificateFile, Nickname, parse_item
from vccid.keys.uri import Pkcs11Uri

DB = "sql:/etc/pki/nssdb"


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("cert1", Nickname(DB, "cert1")),
        ("Jürgen's card, 2024: ID", Nickname(DB, "Jürgen's card, 2024: ID")),
        ("NSS Certificate DB:cert1", Nickname(DB, "cert1")),
        ("NSS Certificate DB:O=a/b", Nickname(DB, "O=a/b")),
        ("missing.pem", Nickname(DB, "missing.pem")),
        ("./missing.pem", CertificateFile(Path("missing.pem"))),
        ("/no/ending", CertificateFile(Path("/no/ending"))),
        ("a\xa0name", Nickname(DB, "a\xa0name")),
        ("/a/b.p12#two", CertificateFile(Path("/a/b.p12"), "two")),
        ("/a/b.p12#", CertificateFile(Path("/a/b.p12"))),
        ("nick#name", Nickname(DB, "nick#name")),
        ("PKCS11:object=a", Pkcs11Uri(path="pkcs11:object=a", object="a")),
        ("pkcs11:object=a", Pkcs11Uri(path="pkcs11:object=a", object="a")),
    ],
)
def test_kinds(text: str, item: object) -> None:
    assert parse_item(text, DB) == item


def test_a_file_here_with_a_known_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.pem", "a.P12", "plain"):
        (tmp_path / name).touch()
    assert parse_item("a.pem", DB) == CertificateFile(Path("a.pem"))
    assert parse_item("a.P12", DB) == CertificateFile(Path("a.P12"))
    assert parse_item("plain", DB) == Nickname(DB, "plain")


@pytest.mark.parametrize("text", ["", "  ", "a\0b", "a\nb", "\udcff"])
def test_names_no_certificate_can_have(text: str) -> None:
    with pytest.raises(SourceUnusable, match="empty or has unprintable"):
        parse_item(text, DB)
