# SPDX-License-Identifier: LGPL-2.1-or-later
"""PKCS#12 files of every make: read, or named for what they are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.key_material import certificate, der, key_pem, pem, rsa_key, run
from tests.odd_certificates import OID, SEQUENCE, SET, pfx, tlv
from tests.odd_certificates import certificate as odd_certificate
from vccid.errors import PasswordNeeded, WrongPassword
from vccid.keys.content import Content
from vccid.keys.pkcs12 import pbmac1, read_pkcs12

KEY = rsa_key(1, 1024)
CERT = certificate("mine", KEY.public_key())
SECRET = b"secret"

#: `openssl pkcs12 -export -pbmac1_pbkdf2` of OpenSSL 3.5, which 3.0 does not open.
PBMAC1 = base64.b64decode(
    """
    MIIGywIBAzCCBkUGCSqGSIb3DQEHAaCCBjYEggYyMIIGLjCCAuoGCSqGSIb3DQEHBqCCAtswggLXAgEAMIIC0AYJKoZI
    hvcNAQcBMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBCRa5NBzqB44rmUCPYEiZ9iAgIIADAMBggqhkiG9w0C
    CQUAMB0GCWCGSAFlAwQBKgQQl+hMEdCM/VWq8ycYy+q9HICCAmD45gglO9Dye4z93W2ooeeJ2v+6EYPhCEqlnOkdApbw
    2ZDpNDknF2hbrY5oNivu3NSnRjgHS6B/1SAIiOfqNkEGvW9yg7Cfp5jf95LZILcCumwhGVQXb2CkMSBEWLi/w/oeH8Pb
    zPpBlH7IJVuwWjLBaRjrcZe+BL7cCwnulwH9KlhkdxXq2G4m7OKCureuWt1vzk1+TsdK5VOBwE3Q3DAH6f0fn8WBZad6
    P7y2PmKn5E5ZuabQLxa9xSwwGM+GvbqZ92m5oahbP/My0os+3hbTI8N/x5Nc79j8eucZwJhio4sDs4s+QMTWa9ibE0nq
    jet0R7ILJvu/05GeoSi8Oljup6xX1c7kS7Hmtc0o9Gi524Xjd6rOsJgH3xjFGWY9GVdEGOGbmnB587l+DEnRlZNIOVYZ
    kNXHZUW1sUgwDopocWfznADW/V4QLVdflYzR/XcXt74hLq7vsoo7sCMI+cXKZ5T5xOUp6rDVIAUv1DI6lfVROknlu6sv
    1RYM6jZfgbEkt85PxHRyfBkk6l2eF67AZWWiWumXqxNl89qWQHfok45BT2hzJUvXnFXwQq/BAMHb3Lc4xXoC+6plOiZP
    l31vOvORjmLsgSVvmsqRRVxREvc6R/R8DGn0l5bdzQ1azKudyTn6fUDG+XHSVj4wHJDL8ZLfAwsjS3gKYvDpbkKJWoHi
    aqqMsJtqLWptKpibov8FCrT3l295Jlrzep4tp/KBa8rzakyOEmqLsaIrchXLbz0mXcM17G6QHGUOGzG9kEB7Z6x1quXw
    0lSHgVoa6yTtFkjaYdW+Uzvy7VMwmNngRDCCAzwGCSqGSIb3DQEHAaCCAy0EggMpMIIDJTCCAyEGCyqGSIb3DQEMCgEC
    oIIC6TCCAuUwXwYJKoZIhvcNAQUNMFIwMQYJKoZIhvcNAQUMMCQEEFfUZrh0wdPuM3aowd6L0rECAggAMAwGCCqGSIb3
    DQIJBQAwHQYJYIZIAWUDBAEqBBBlGW06qgpiZOqeoXlmmzPyBIICgBCuKEmAKNViF6c/rKS6tuvZnahytcqS86vYKNoX
    Unp6jxlu8JaftjTpbLy9ROrk3yIS54weyqE44uNRVszCA9CxSg2hNIjRrUMWvE2ibchJ4etriCnDlhLlDXX22Qp9CgLQ
    +x4lMs3lwtJwfxOH8Je9ymGF+6/hN1KmqXwRUAuN7vn8qZ6oWYm31UiWlMvmHOjFX/30uCjd6RZcTtw8+ZMYvRBiIJFi
    lC4sULxMrNPqqVxHU1soDUS9MlJpjQgopXuN9xLjPlqiRvcviNyQv+INvQISXsmHLkBO125zK1T5oHRLiw5rLiriEu+D
    91XCyiEoI4fP8jzaSUxxrLkNFSPV14e7pzZbzUYkcgXoQiukuBp4hpYW1YngdpYUJgOv4ayhAvl8/9zm6GlKFhyfZtfP
    UPuiGGCUPcK4f2YxannQq911HCYJEB6UI4ml2j2rYGqNIy7WcbidBrqYPpVfI533zFRXYRfNNSNIlSoCEnhTx2z6mB3N
    bo47MOx85dEmWu/Q7LNgWdGr4ovG/VzFZRXZm3DPtQWvh8vUnWmblY7UU2r/Ge8kOLavL4rOLDJ7bXH6uHqmPmCMCDau
    JCfemf7Sggn+VRxPRBRkvKtYQunQKcWtZ4eG3oKtzazEnadQ50jnHv/mBiTQU2nztj9eoym4XFMRfpPjIEXPu/hU/QQe
    F8DBAp2iLSnCN7pR/PtOOvbBOZmDCjuF1W2jhYgQByKnVI35grvM8XQnhsvWp6m5cer7CPlMBkGFF1nUNuqsrf+HtJZW
    GNBnWVBAhjfU8/g04EtEeXEN9AWFFgmMuZ/jeZIaTdMOGpSop9MeYXCVSGOpNR+QDCLYrdqSiNsaSoAxJTAjBgkqhkiG
    9w0BCRUxFgQUrmHcI6HS1HlpJhSPZUI5gAzsALwwfTBtMEkGCSqGSIb3DQEFDjA8MCwGCSqGSIb3DQEFDDAfBAgkqcZQ
    IQADugICCAACASAwDAYIKoZIhvcNAgkFADAMBggqhkiG9w0CCQUABCCBTElwquHC8UlJX+iFREHz9sx8PXYEyzaP3bUy
    UMya4AQIJKnGUCEAA7oCAggA
    """
)


def read(data: bytes, password: bytes | None = SECRET) -> Content:
    """What is in a file, whose password may be asked for once."""
    asked: list[bool] = []

    def ask() -> bytes:
        assert not asked, "asked twice"
        asked.append(True)
        if password is None:
            raise PasswordNeeded("file needs a password")
        return password

    content = read_pkcs12("file", data, ask)
    assert content is not None
    return content


def holds_the_pair(content: Content) -> bool:
    return [one.der for one in content.certificates] == [der(CERT)] and len(content.keys) == 1


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.pem"
    path.write_bytes(pem(CERT) + key_pem(KEY))
    return path


def export(source: Path, *options: str) -> bytes:
    """By OpenSSL."""
    path = source.with_suffix(".p12")
    run("openssl", "pkcs12", "-export", "-in", source, "-out", path, "-passout", "pass:secret",
        "-name", "mine", *options)  # fmt: skip
    return path.read_bytes()


def test_pbmac1(source: Path) -> None:
    content = read(PBMAC1)
    assert len(content.certificates) == len(content.keys) == 1
    with pytest.raises(WrongPassword, match="wrong password for file"):
        read(PBMAC1, b"other")


def test_pbmac1_by_its_definition() -> None:
    """RFC 8018, 7.1, with what Python has: SHA-1 is PBKDF2's default."""
    sha1_hmac = bytes.fromhex("30 0A 06 08 2A 86 48 86 F7 0D 02 07")
    pbkdf2 = tlv(OID, bytes.fromhex("2A 86 48 86 F7 0D 01 05 0C"))
    numbers = (tlv(4, b"salt"), tlv(2, b"\1"), tlv(2, b"\x14"))
    parameters = tlv(SEQUENCE, tlv(SEQUENCE, pbkdf2, tlv(SEQUENCE, *numbers)), sha1_hmac)
    key = hashlib.pbkdf2_hmac("sha1", b"pw", b"salt", 1, 20)
    assert pbmac1(parameters, b"pw", b"content") == hmac.digest(key, b"content", "sha1")


@pytest.mark.parametrize(
    "numbers",
    [
        (tlv(4, b"salt"), tlv(2, b"\1")),  # no length, which RFC 9579 forbids
        (tlv(4, b"salt"), tlv(2, b"\1"), tlv(2, b"\x7f\xff\xff\xff")),
        (tlv(4, b"salt"), tlv(2, b"\x7f\xff\xff\xff"), tlv(2, b"\x14")),
        (tlv(2, b"\1"), tlv(2, b"\1"), tlv(2, b"\x14")),
    ],
)
def test_pbmac1_of_strangers(numbers: tuple[bytes, ...]) -> None:
    sha1_hmac = bytes.fromhex("30 0A 06 08 2A 86 48 86 F7 0D 02 07")
    pbkdf2 = tlv(OID, bytes.fromhex("2A 86 48 86 F7 0D 01 05 0C"))
    parameters = tlv(SEQUENCE, tlv(SEQUENCE, pbkdf2, tlv(SEQUENCE, *numbers)), sha1_hmac)
    with pytest.raises((ValueError, IndexError)):
        pbmac1(parameters, b"pw", b"content")


def test_no_mac(source: Path) -> None:
    data = export(source, "-nomac")
    assert holds_the_pair(read(data))
    with pytest.raises(PasswordNeeded):
        read(data, None)
    with pytest.raises(WrongPassword) as wrong:
        read(data, b"other")
    assert wrong.value.hint == "it was tried once; a damaged file answers alike"


def test_no_password_at_all(source: Path) -> None:
    plain = ("-keypbe", "NONE", "-certpbe", "NONE", "-nomac")
    assert holds_the_pair(read(export(source, *plain), None))
    assert holds_the_pair(read(export(source, "-passout", "pass:"), None))


def test_old_ciphers(source: Path) -> None:
    assert holds_the_pair(read(export(source, "-legacy")))


def test_old_ciphers_without_their_provider(source: Path) -> None:
    """It is named, and neither a wrong password nor a reason for the rest to fail."""
    export(source, "-legacy")
    code = (
        "from pathlib import Path; import sys; from vccid.errors import VccidError\n"
        "from vccid.keys.pkcs12 import read_pkcs12\n"
        "from vccid.run.generate import Recipe, new_certificates\n"
        "assert len(new_certificates(Recipe())) == 3\n"
        "try: read_pkcs12('file', Path(sys.argv[1]).read_bytes(), lambda: b'secret')\n"
        "except VccidError as error: print(error.message, error.hint, sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source.with_suffix(".p12")],
        env={**os.environ, "OPENSSL_MODULES": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    message, hint = done.stdout.splitlines()
    assert message == (
        "file needs pbeWithSHA1And40BitRC2-CBC, which OpenSSL does not do here: unsupported"
    )
    assert hint.startswith("install OpenSSL's legacy provider")


def test_what_nss_writes(source: Path, tmp_path: Path) -> None:
    """BER with indefinite lengths."""
    export(source)
    folder, out = tmp_path / "db", tmp_path / "nss.p12"
    folder.mkdir()
    run("certutil", "-N", "-d", f"sql:{folder}", "--empty-password")
    run("pk12util", "-d", f"sql:{folder}", "-i", source.with_suffix(".p12"), "-W", "secret")
    run("pk12util", "-d", f"sql:{folder}", "-o", out, "-n", "mine", "-W", "secret")
    assert holds_the_pair(read(out.read_bytes()))


def test_bytes_behind_and_long_lengths(source: Path) -> None:
    data = export(source)
    assert holds_the_pair(read(data + b"\r\n"))
    long = b"\x30\x84\x00\x00" + data[2:4] + data[4:]
    assert data[1] == 0x82
    assert holds_the_pair(read(long))


def test_a_name_that_is_no_string() -> None:
    """Versions of OpenSSL take any value for one, and crash."""
    name = tlv(
        SEQUENCE, tlv(OID, bytes.fromhex("2A 86 48 86 F7 0D 01 09 14")), tlv(SET, b"\1\1\xff")
    )
    cert = odd_certificate()
    bag = (
        tlv(OID, bytes.fromhex("2A 86 48 86 F7 0D 01 09 16 01")),
        tlv(0xA0, tlv(4, cert)),
    )
    plain = pfx(cert)
    before = tlv(0xA0, tlv(SEQUENCE, *bag))
    assert before in plain
    named = _rebuilt(before + tlv(SET, name), cert)
    content = read(named, None)
    assert [(one.der, one.name) for one in content.certificates] == [(cert, "")]


def _rebuilt(cert_bag: bytes, cert: bytes) -> bytes:
    data = bytes.fromhex("2A 86 48 86 F7 0D 01 07 01")
    bag = tlv(SEQUENCE, tlv(OID, bytes.fromhex("2A 86 48 86 F7 0D 01 0C 0A 01 03")), cert_bag)

    def wrapped(content: bytes) -> bytes:
        return tlv(SEQUENCE, tlv(OID, data), tlv(0xA0, tlv(4, content)))

    safe = wrapped(tlv(SEQUENCE, bag))
    return tlv(SEQUENCE, tlv(2, b"\3"), wrapped(tlv(SEQUENCE, safe)))
