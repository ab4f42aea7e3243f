# SPDX-License-Identifier: LGPL-2.1-or-later
"""PEM, DER and PKCS#12 files: whole, split, encrypted, damaged, of another kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.key_material import (
    assert_signs,
    certificate,
    der,
    key_der,
    key_pem,
    p12,
    pem,
    rsa_key,
    run,
)
from vccid.errors import (
    KeyUnsuitable,
    PasswordNeeded,
    PrivateKeyMissing,
    SourceUnusable,
    VccidError,
    WrongPassword,
)
from vccid.keys.files import load_file
from vccid.keys.holder import pki_applet
from vccid.keys.passwords import Passwords

APPLET = "CAC PKI applet 1 (ID)"
SECRET = b"correct horse"
CERT = certificate("mine", rsa_key(1).public_key())
ISSUER = certificate("issuer", rsa_key().public_key())


def load(path: Path, password: bytes | None = None, credentials: Path | None = None) -> None:
    """Load, and see that the key is the certificate's."""
    found, key = load_file(path, Passwords(password, credentials), "mine", pki_applet(APPLET))
    assert found.der == der(CERT)
    assert_signs(key.raw, found.der)


@pytest.fixture(params=["mine.pem", "mine.bin"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


FORMS = {
    "key, certificate": key_pem(rsa_key(1)) + pem(CERT),
    "issuer, certificate, key": pem(ISSUER) + pem(CERT) + b"some text\n" + key_pem(rsa_key(1)),
    "PKCS#12": p12(rsa_key(1), CERT),
}
ENCRYPTED = {
    "PEM": pem(CERT) + key_pem(rsa_key(1), SECRET),
    "PKCS#12": p12(rsa_key(1), CERT, SECRET),
}


@pytest.mark.parametrize("form", FORMS)
def test_plain(path: Path, form: str) -> None:
    path.write_bytes(FORMS[form])
    load(path)
    load(path, b"a password nobody asked for")


@pytest.mark.parametrize("form", ENCRYPTED)
def test_encrypted(path: Path, form: str) -> None:
    path.write_bytes(ENCRYPTED[form])
    load(path, SECRET)
    with pytest.raises(PasswordNeeded) as needed:
        load(path)
    assert needed.value.message == f"{path} needs a password"
    for way in ("--password-file", f"systemd credential vccid.password.{path.name}", "prompt"):
        assert way in needed.value.hint
    with pytest.raises(WrongPassword) as wrong:
        load(path, b"battery staple")
    assert wrong.value.message == f"wrong password for {path}"
    assert wrong.value.__cause__ is None
    assert "battery" not in repr(wrong.value) + wrong.value.hint


def test_password_from_a_credential(tmp_path: Path) -> None:
    path = tmp_path / "mine.p12"
    path.write_bytes(ENCRYPTED["PKCS#12"])
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "vccid.password").write_bytes(b"for all others")
    with pytest.raises(WrongPassword):
        load(path, None, credentials)
    (credentials / "vccid.password.mine.p12").write_bytes(SECRET + b"\n")
    load(path, None, credentials)


@pytest.mark.parametrize("beside", ["mine.key", "mine-key.pem"])
@pytest.mark.parametrize("cert", [pem(CERT), der(CERT)], ids=["PEM", "DER"])
@pytest.mark.parametrize(
    ("key", "password"),
    [
        (key_pem(rsa_key(1)), None),
        (key_der(rsa_key(1)), None),
        (key_pem(rsa_key(1), SECRET), SECRET),
        (key_der(rsa_key(1), SECRET), SECRET),
    ],
    ids=["key-PEM", "key-DER", "encrypted-PEM", "encrypted-DER"],
)
def test_key_beside(
    tmp_path: Path, beside: str, cert: bytes, key: bytes, password: bytes | None
) -> None:
    path = tmp_path / "mine.crt"
    path.write_bytes(cert)
    (tmp_path / beside).write_bytes(key)
    load(path, password)
    if password is not None:
        with pytest.raises(PasswordNeeded, match=beside):
            load(path)
        with pytest.raises(WrongPassword, match=beside):
            load(path, b"no")


def test_files_of_the_programs_people_use(tmp_path: Path) -> None:
    """openssl's traditional key and PKCS#12, and those of older releases."""
    key, cert = tmp_path / "k", tmp_path / "c.pem"
    key.write_bytes(key_pem(rsa_key(1)))
    cert.write_bytes(pem(CERT))
    traditional = tmp_path / "c.key"
    run("openssl", "rsa", "-in", key, "-traditional", "-aes128", "-passout", "pass:old",
        "-out", traditional)  # fmt: skip
    load(cert, b"old")
    for options in ((), ("-legacy",)):
        bundle = tmp_path / "bundle.p12"
        run("openssl", "pkcs12", "-export", "-inkey", key, "-in", cert, "-out", bundle,
            "-passout", "pass:old", *options)  # fmt: skip
        load(bundle, b"old")


def test_no_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.pem"
    path.write_bytes(pem(CERT))
    with pytest.raises(PrivateKeyMissing) as caught:
        load(path)
    assert caught.value.message == (
        f"certificate {path} has no private key in it,"
        " and beside it is neither mine.key nor mine-key.pem nor mine.key.pem nor mine.pem.key"
        " nor privkey.pem nor key.pem"
    )


def test_the_key_of_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.pem"
    path.write_bytes(pem(CERT) + key_pem(rsa_key(2)))
    with pytest.raises(PrivateKeyMissing, match="belongs to another certificate"):
        load(path)


def test_an_elliptic_curve_key(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    path = tmp_path / "mine.pem"
    path.write_bytes(pem(certificate("a", key.public_key())) + key_pem(key))
    with pytest.raises(KeyUnsuitable, match="EC on secp384r1"):
        load(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "neither PEM, nor a DER certificate, nor PKCS#12"),
        (b"hello", "neither PEM, nor a DER certificate, nor PKCS#12"),
        (os.urandom(3000), "neither PEM, nor a DER certificate, nor PKCS#12"),
        (key_pem(rsa_key(1)), "holds no certificate"),
        (pem(CERT).replace(b"M", b"*", 9), "certificate in"),
        (pem(CERT) + key_pem(rsa_key(1)).replace(b"\nMII", b"\nMZZ", 1), "private key in"),
        (p12(rsa_key(1), CERT)[:900], "PKCS#12 file .* is damaged"),
    ],
    ids=range(7),
)
def test_damaged_or_of_another_kind(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "mine.pem"
    path.write_bytes(content)
    with pytest.raises(SourceUnusable, match=says) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint


def test_every_cut_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.pem"
    for form in (*FORMS.values(), *ENCRYPTED.values()):
        for end in range(0, len(form), 97):
            path.write_bytes(form[:end])
            with pytest.raises(VccidError) as caught:
                load(path, SECRET)
            assert "\n" not in caught.value.message


@pytest.mark.parametrize(("make", "says"), [("missing", "does not exist"), ("folder", "no file")])
def test_no_file(tmp_path: Path, make: str, says: str) -> None:
    path = tmp_path / "mine.pem"
    if make == "folder":
        path.mkdir()
    with pytest.raises(SourceUnusable, match=says):
        load(path)


def test_what_would_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.pem")
    with pytest.raises(SourceUnusable, match="no file"):
        load(tmp_path / "mine.pem")
    with pytest.raises(SourceUnusable, match="no file"):
        load(Path("/dev/zero"))
    with open(tmp_path / "large.pem", "wb") as large:
        large.truncate(1 << 30)
    with pytest.raises(SourceUnusable, match="too large"):
        load(tmp_path / "large.pem")


@pytest.mark.parametrize("traditional", [True, False])
def test_a_wrong_password_whose_padding_is_right_by_chance(
    tmp_path: Path, traditional: bool
) -> None:
    """One in 256 is; what it opens is no key, and still the password is what was wrong."""
    source, path = tmp_path / "source.pem", tmp_path / "mine.pem"
    source.write_bytes(key_pem(rsa_key(1, 1024)))
    run("openssl", "rsa", "-aes128", *(["-traditional"] if traditional else []), "-in", source,
        "-passout", "pass:secret", "-out", path)  # fmt: skip
    path.write_bytes(path.read_bytes() + pem(certificate("a", rsa_key(1, 1024).public_key())))
    for number in range(600 if traditional else 1):
        with pytest.raises(WrongPassword):
            load_file(path, Passwords(b"%d" % number), "mine", APPLET)
