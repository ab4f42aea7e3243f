# SPDX-License-Identifier: LGPL-2.1-or-later
"""The certificates that `vccid run --generate` makes."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vccid.errors import RunFailed
from vccid.run.generate import ALGORITHMS, DEFAULT_ALGORITHM, Recipe, new_certificates, write

KINDS = {"p256": 256, "p384": 384, "rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}


def parsed(made: dict[str, bytes]) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(pem) for pem in made.values()]


def extension(cert: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.ExtensionType:
    return cert.extensions.get_extension_for_class(kind).value


@pytest.mark.parametrize("algorithm", ["p256", "p384", "rsa2048"])
def test_a_piv_cards(algorithm: str) -> None:
    certificates = parsed(new_certificates(Recipe("piv", algorithm)))
    assert len(certificates) == 4
    for cert in certificates:
        key = cert.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        assert key.key_size == KINDS[algorithm] and cert.issuer == cert.subject
    usages = [extension(cert, x509.KeyUsage) for cert in certificates]
    assert [usage.content_commitment for usage in usages] == [False, True, False, False]
    agrees = algorithm.startswith("p")
    assert usages[2].key_agreement is agrees and usages[2].key_encipherment is not agrees
    (card,) = extension(certificates[3], x509.ExtendedKeyUsage)
    assert card.dotted_string == "2.16.840.1.101.3.6.8"


def test_a_cacs() -> None:
    assert set(ALGORITHMS) == set(KINDS)
    certificates = parsed(new_certificates(Recipe("cac", DEFAULT_ALGORITHM["cac"])))
    assert len(certificates) == 3
    assert all(isinstance(cert.public_key(), rsa.RSAPublicKey) for cert in certificates)


def test_an_authority(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    made = new_certificates(Recipe("piv", "p256", ca, "me/admin@EXAMPLE.TEST"))
    files = write(made, tmp_path)
    subprocess.run(["openssl", "verify", "-CAfile", ca, *files], check=True, capture_output=True)
    assert {Path(file).stat().st_mode & 0o777 for file in files} == {0o600}
    names = [
        cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for cert in parsed(made)[:1]
    ]
    upn, kerberos = (name for name in names[0])
    assert upn.value == b"\x0c\x15me/admin@EXAMPLE.TEST"
    assert kerberos.value == (
        bytes.fromhex("30 28 A0 0E 1B 0C")  # KRB5PrincipalName, its realm
        + b"EXAMPLE.TEST"
        + bytes.fromhex("A1 16 30 14 A0 03 02 01 01")  # PrincipalName: NT-PRINCIPAL
        + bytes.fromhex("A1 0D 30 0B 1B 02")  # name-string
        + b"me"
        + bytes.fromhex("1B 05")
        + b"admin"
    )
    for cert in parsed(made)[1:]:
        with pytest.raises(x509.ExtensionNotFound):
            cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_where_the_authority_cannot_go(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"cannot be written: No such file"):
        new_certificates(Recipe("piv", "p256", tmp_path / "gone" / "ca.pem"))


def test_without_threads_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="no thread can be started"):
        new_certificates(Recipe("piv", "p256"))
