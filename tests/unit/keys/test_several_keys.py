# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of several keys, keys beside their certificates, and what else a file may hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.key_material import certificate, der, key_pem, pem, rsa_key, run
from vccid.errors import CertificateNotFound, KeySourceError, PrivateKeyMissing, SourceUnusable
from vccid.keys.load import Loading
from vccid.keys.passwords import Passwords

ONE_KEY, TWO_KEY, EC_KEY = (
    rsa_key(1, 1024),
    rsa_key(2, 1024),
    ec.generate_private_key(ec.SECP256R1()),
)
ONE = certificate("one", ONE_KEY.public_key())
TWO = certificate("two", TWO_KEY.public_key())
EC = certificate("curve", EC_KEY.public_key())
SECRET = b"secret"


def put_in(*items: str | Path, password: bytes | None = SECRET) -> tuple[list[bytes], list[str]]:
    """The certificates of a card, and what was warned of."""
    loading = Loading([str(item) for item in items], "/nowhere", Passwords(password))
    loading.open()
    return [found.certificate for found in loading.read()], loading.warnings


@pytest.fixture
def pems(tmp_path: Path) -> Path:
    path = tmp_path / "many.pem"
    path.write_bytes(
        key_pem(EC_KEY) + pem(EC) + pem(ONE) + key_pem(ONE_KEY) + key_pem(TWO_KEY) + pem(TWO)
    )
    return path


@pytest.mark.parametrize(
    ("choice", "expected"), [("#1", EC), ("#2", ONE), ("#3", TWO), ("#one", ONE), ("#two", TWO)]
)
def test_one_of_several_by_number_or_name(pems: Path, choice: str, expected: object) -> None:
    if expected is EC:
        with pytest.raises(KeySourceError, match="EC on secp256r1, which CAC PKI applet 1"):
            put_in(f"{pems}{choice}")
        return
    assert put_in(f"{pems}{choice}") == ([der(expected)], [])


def test_a_choice_there_is_not(pems: Path) -> None:
    with pytest.raises(CertificateNotFound) as caught:
        put_in(f"{pems}#three")
    assert caught.value.hint == "it has 1 (curve), 2 (one), 3 (two)"


def test_the_first_that_fits_and_what_else_there_is(pems: Path) -> None:
    certificates, warnings = put_in(pems)
    assert certificates == [der(ONE)], "the EC key hides nothing"
    assert warnings == [
        "of many.pem, 2 (one) went in; it also holds 1 (curve), 3 (two):"
        " many.pem#NAME or #NUMBER names one"
    ]


def test_in_order_where_several_are_wanted(pems: Path) -> None:
    certificates, warnings = put_in(pems, pems, pems)
    assert certificates == [der(ONE), der(TWO), der(ONE)]
    assert len(warnings) == 1
    assert put_in(f"{pems}#two", f"{pems}#one")[0] == [der(TWO), der(ONE)]


def test_a_file_whose_name_has_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "card #1.pem"
    path.write_bytes(pem(ONE) + key_pem(ONE_KEY))
    assert put_in(path) == ([der(ONE)], [])
    assert put_in(f"{path}#one") == ([der(ONE)], [])


def test_friendly_names_before_a_pem_block(tmp_path: Path) -> None:
    """As openssl pkcs12 and NSS's tools print them."""
    path = tmp_path / "named.pem"
    attributes = b"Bag Attributes\n    friendlyName: %s\n    localKeyID: 01\nsubject=x\n"
    path.write_bytes(
        attributes % b"erste" + pem(ONE) + key_pem(ONE_KEY)
        + attributes % b"zweite" + pem(TWO) + key_pem(TWO_KEY)
    )  # fmt: skip
    assert put_in(f"{path}#zweite")[0] == [der(TWO)]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("fullchain.pem", "privkey.pem"),
        ("fullchain3.pem", "privkey3.pem"),
        ("cert.pem", "key.pem"),
        ("x.crt", "x.crt.key"),
        ("x.crt", "x.key"),
        ("x.crt", "x-key.pem"),
        ("tls.crt", "tls.key"),
    ],
)
def test_the_key_beside(tmp_path: Path, name: str, key: str) -> None:
    (tmp_path / name).write_bytes(pem(ONE) + pem(TWO))
    (tmp_path / key).write_bytes(key_pem(ONE_KEY))
    assert put_in(tmp_path / name)[0] == [der(ONE)]


def test_the_key_named_after_the_certificate_comes_first(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_bytes(pem(ONE))
    (tmp_path / "x.key").write_bytes(key_pem(ONE_KEY))
    (tmp_path / "privkey.pem").write_bytes(key_pem(TWO_KEY))
    assert put_in(tmp_path / "x.pem")[0] == [der(ONE)]


def test_an_openssh_key(tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    text = ONE_KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    path.write_bytes(pem(ONE) + text)
    assert put_in(path)[0] == [der(ONE)]


def test_an_encrypted_openssh_key_is_read_or_told_how(tmp_path: Path) -> None:
    key = tmp_path / "a.key"
    key.write_bytes(ONE_KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    key.chmod(0o600)
    run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key)
    (tmp_path / "a.pem").write_bytes(pem(ONE))
    try:
        assert put_in(tmp_path / "a.pem")[0] == [der(ONE)]
    except SourceUnusable as error:
        assert error.hint == f"turn it into PEM: ssh-keygen -p -m PEM -f {key}"


def test_what_is_there_instead(tmp_path: Path) -> None:
    path = tmp_path / "request.pem"
    path.write_bytes(
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    )
    with pytest.raises(SourceUnusable, match="holds no certificate, but a certificate request"):
        put_in(path)
    path.write_bytes(key_pem(ONE_KEY))
    with pytest.raises(SourceUnusable, match="holds no certificate, but a private key"):
        put_in(path)


def test_a_pem_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "cut.pem"
    path.write_bytes(pem(ONE) + key_pem(ONE_KEY)[:-40])
    with pytest.raises(SourceUnusable, match="the PRIVATE KEY in .* has no end"):
        put_in(path)


def test_none_of_the_keys_fits(tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(pem(ONE) + key_pem(TWO_KEY) + key_pem(EC_KEY))
    with pytest.raises(PrivateKeyMissing, match="belongs to another certificate"):
        put_in(path)
