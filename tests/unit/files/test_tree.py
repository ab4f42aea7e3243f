# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is to see of a reader, from what the daemon tells of it."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.unit.files.daemon_says import card_info, certificate, reader
from vccid.files import tree
from vccid.files.certificates import openssh, pem
from vccid.files.tree import Directory, File, Link, Stream

TIME = 1_700_000_000_500_000_000


def content(node: Any) -> bytes:
    assert isinstance(node, File)
    return node.content


def entries(node: Any) -> dict[str, Any]:
    assert isinstance(node, Directory) and node.entries is not None
    return dict(node.entries)


def test_an_empty_reader() -> None:
    assert tree.content_of(reader(), None) == {
        "state": File(b"empty\n", TIME),
        "events": Stream("vccid0", TIME),
    }
    assert tree.reader_of(reader()) == Directory("vccid0", TIME)
    assert tree.reader_of(reader(card=True)).directories == 1


def test_a_reader_with_a_card() -> None:
    info = card_info(["a", "b", "a"])
    shown = tree.content_of(reader(card=True), info)
    assert list(shown) == ["state", "events", "atr", "card"]
    assert content(shown["state"]) == b"inserted\n"
    assert content(shown["atr"]) == b"3B 00\n"
    card = entries(shown["card"])
    assert content(card["serial"]) == b"0102\n"
    assert content(card["pin-tries"]) == b"3\n"
    certs = entries(card["certs"])
    der = base64.b64decode(info["certificates"][1]["der"])
    assert content(certs["b.der"]) == der
    assert content(certs["b.pem"]) == x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    assert content(certs["b.pub"]).startswith(b"ssh-rsa ")
    assert content(certs["b.pub"]).endswith(b" b\n")
    assert certs["signature.pub"] == Link("b.pub", TIME)
    assert certs["encryption.der"] == Link("a~2.der", TIME)
    assert len(certs) == 18


def test_what_the_card_does_not_tell_has_no_file() -> None:
    info = card_info([])
    info["card"] |= {"serial": "", "tries": None}
    card = entries(tree.content_of(reader(card=True), info)["card"])
    assert list(card) == ["certs"]
    assert entries(card["certs"]) == {}
    assert tree.pin_tries(info, TIME) is None


def test_another_generation_is_another_card() -> None:
    first = tree.content_of(reader(card=True, generation=1), card_info(["a"]))["card"]
    second = tree.content_of(reader(card=True, generation=3), card_info(["a"]))["card"]
    assert isinstance(first, Directory) and isinstance(second, Directory)
    assert first.key != second.key


def test_a_reader_of_an_older_daemon_has_no_time() -> None:
    old = reader()
    del old["changed"]
    assert tree.reader_of(old).time == 0


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (rsa.generate_private_key(65537, 2048), "RSA"),
        (ec.generate_private_key(ec.SECP256R1()), "ECDSA"),
        (ed25519.Ed25519PrivateKey.generate(), "ED25519"),
    ],
)
def test_ssh_keygen_reads_the_public_key(key: Any, kind: str, tmp_path: Path) -> None:
    line = openssh(certificate("Jane Doe", key), "Jane Doe")
    assert line is not None
    (tmp_path / "id.pub").write_bytes(line)
    said = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "id.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert "Jane Doe" in said and f"({kind})" in said


def test_what_openssh_does_not_take_has_no_public_key() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    assert openssh(certificate("k1", key), "k1") is None
    assert openssh(b"\x30\x00", "damaged") is None


def test_whatever_a_certificate_is_it_has_a_pem() -> None:
    assert pem(b"\x30\x00") == (b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
