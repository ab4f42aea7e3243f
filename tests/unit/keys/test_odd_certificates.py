# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `openssl x509` reads becomes a card byte for byte, whatever it comes from; of the rest one
sentence names the reason."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings

from tests.key_material import certificate as good_certificate
from tests.key_material import der, key_der, key_pem, rsa_key
from tests.odd_certificates import KEY, MET, REFUSED, certificates, pem, pfx, pkcs7
from tests.unit.keys.pretend_token import PretendToken
from vccid.control.certificate_text import describe
from vccid.errors import KeySourceError
from vccid.files.certificates import openssh
from vccid.keys.load import Loading
from vccid.keys.passwords import Passwords
from vccid.keys.rsa import Modulus

GOOD_KEY = rsa_key(1, 1024)
GOOD = der(good_certificate("good", GOOD_KEY.public_key()))
MODULUS = Modulus.of(KEY.public_key().public_numbers().n).encoded

Write = Callable[[Path, bytes], str]


def _pem(folder: Path, odd: bytes) -> str:
    return _file(folder / "a.pem", key_pem(KEY) + pem(odd))


def _pem_chain(folder: Path, odd: bytes) -> str:
    """A good certificate and key, and the odd one behind as its issuer."""
    return _file(folder / "chain.pem", pem(GOOD) + key_pem(GOOD_KEY) + pem(odd))


def _old_label(folder: Path, odd: bytes) -> str:
    return _file(folder / "old.pem", key_pem(KEY) + pem(odd, "X509 CERTIFICATE"))


def _der_beside(folder: Path, odd: bytes) -> str:
    (folder / "b.key").write_bytes(key_der(KEY))
    return _file(folder / "b.der", odd)


def _pkcs12(folder: Path, odd: bytes) -> str:
    return _file(folder / "c.p12", pfx(odd))


def _pkcs12_issuer(folder: Path, odd: bytes) -> str:
    return _file(folder / "d.p12", pfx(GOOD, odd, key=GOOD_KEY) + b"behind")


def _token(folder: Path, odd: bytes) -> str:
    pretend = PretendToken()
    pretend.token.close()
    pretend.add_pair("good", GOOD, b"another modulus", b"\2")
    pretend.add_pair("odd", odd, MODULUS)
    return f"pkcs11:token=pretend;object=odd?module-path={pretend.path}"


def _file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


#: Each source, and whether it is the odd certificate that goes into the card.
SOURCES: dict[str, tuple[Write, bool]] = {
    "PEM": (_pem, True),
    "an issuer in PEM": (_pem_chain, False),
    "X509 CERTIFICATE": (_old_label, True),
    "DER": (_der_beside, True),
    "PKCS#12": (_pkcs12, True),
    "an issuer in PKCS#12": (_pkcs12_issuer, False),
    "a token": (_token, True),
}


def openssl_reads(odd: bytes) -> bool:
    command = ["openssl", "x509", "-noout"]
    return subprocess.run(command, input=pem(odd), capture_output=True, check=False).returncode == 0


def put_in(item: str) -> bytes:
    """The certificate a card gets."""
    loading = Loading([item], "/nowhere", Passwords())
    try:
        loading.open()
        return loading.read()[0].certificate
    finally:
        loading.close()


def hold_to_the_rule(odd: bytes) -> None:
    reads = openssl_reads(odd)
    with TemporaryDirectory() as folder:
        for name, (write, is_leaf) in SOURCES.items():
            item = write(Path(folder), odd)
            if reads:
                assert put_in(item) == (odd if is_leaf else GOOD), name
                continue
            try:
                assert put_in(item) == GOOD and not is_leaf, name
            except KeySourceError as error:
                assert error.message and "\n" not in error.message, name
    told = describe(odd)
    assert all(text.isprintable() or "\xa0" in text for text in told.values()), told
    openssh(odd, "odd")


@pytest.mark.parametrize("name", MET)
def test_what_was_met(name: str) -> None:
    # Debian 13's OpenSSL reads no dates any more that are none.
    assert openssl_reads(MET[name]) or name.startswith("dates ")
    hold_to_the_rule(MET[name])


@pytest.mark.parametrize("odd", REFUSED.values(), ids=REFUSED)
def test_what_openssl_refuses(odd: bytes) -> None:
    assert not openssl_reads(odd)
    hold_to_the_rule(odd)


@settings(max_examples=25, deadline=None)
@given(certificates())
def test_the_rule(odd: bytes) -> None:
    hold_to_the_rule(odd)


def test_a_trusted_certificate_loses_what_it_is_trusted_for(tmp_path: Path) -> None:
    """OpenSSL's own form has that behind the certificate."""
    odd = MET["X.509 version 2"]
    trust = bytes.fromhex("30 0C 30 0A 06 08 2B 06 01 05 05 07 03 02")  # clientAuth
    path = tmp_path / "trusted.pem"
    path.write_bytes(pem(odd + trust, "TRUSTED CERTIFICATE") + key_pem(KEY))
    assert put_in(str(path)) == odd


@pytest.mark.parametrize("label", ["PKCS7", "PKCS #7 SIGNED DATA", "CMS", ""])
def test_a_bundle_of_certificates(tmp_path: Path, label: str) -> None:
    odd = MET["Latin-1 in a T61String"]
    bundle = pkcs7(GOOD, odd)
    path = tmp_path / "bundle.p7b"
    path.write_bytes(pem(bundle, label) if label else bundle)
    (tmp_path / "bundle.key").write_bytes(key_pem(KEY))
    assert put_in(str(path)) == odd


def test_card_info_names_what_can_be_read() -> None:
    told = describe(MET["Latin-1 in a T61String"])
    assert told["subject"] == "CN=André"
    assert told["key"] == "RSA-1024"
    assert describe(MET["dates that are none"])["not_after"] == "unknown"
    assert describe(b"none")["subject"] == "unknown"
