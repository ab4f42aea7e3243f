# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is on a card without anybody having written it, by the standard's and GSA's rules."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.key_material import certificate, der, rsa_key
from tests.unit.card.piv.host import NOW, Host, credential, credentials, elliptic, encode, tlv
from tests.unit.card.piv.requirements import meets
from vccid.card.piv.fascn import FascN
from vccid.card.piv.objects import certificate as certificate_object
from vccid.card.piv.objects import certificate_in
from vccid.card.piv.slots import guid_of
from vccid.keys.base import Credential
from vccid.keys.x509 import validity

CHUID_SIGNED = "2.16.840.1.101.3.6.1"


def fields(host: Host, name: str) -> list[tuple[int, bytes]]:
    return tlv(host.object(name))


@meets("D3", "D2", "D25")
def test_card_capability(host: Host) -> None:
    found = fields(host, "ccc")
    assert [tag for tag, _ in found] == [
        0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE,
    ]  # fmt: skip
    values = dict(found)
    assert values[0xF5] == b"\x10"
    assert len(values[0xF0]) == 21 and values[0xF0][:7].hex() == "a0000001 16ff02".replace(" ", "")
    assert values[0xF3] == b"", "else OpenSC takes it for a CAC"


@meets("D4", "D5", "D19", "D2", "D25")
def test_chuid(host: Host) -> None:
    found = fields(host, "chuid")
    assert [tag for tag, _ in found] == [0x30, 0x34, 0x35, 0x3E, 0xFE]
    values = dict(found)
    assert values[0x30].hex().upper().startswith("D4E739"), "agency 9999"
    assert len(values[0x30]) == 25
    guid = values[0x34]
    assert len(guid) == 16 and guid[6] >> 4 == 5 and guid[8] >> 6 == 2
    assert guid == guid_of([item.certificate for item in credentials()])
    last = max(validity(x509.load_der_x509_certificate(item.certificate))[1]
               for item in credentials())  # fmt: skip
    assert values[0x35].decode() == f"{last:%Y%m%d}"


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (FascN(), "D4E739DA739CED39CE739D836858210842108421C84210C3EB"),
        (
            FascN("9999", "0001", "000042", "1", "1", "1234567890", "1", "9999", "1"),
            "D4E739D8210C2C10842445A1685A08C92ADE0A6184E739C3FF",
        ),
        (
            FascN("9999", "0000", "000000", "0", "0", "0000000000", "1", "0000", "1"),
            "D4E739D821086C1084210D8360D8210842108421804210C3F3",
        ),
    ],
)
@meets("D5")
def test_fascn(number: FascN, encoded: str) -> None:
    assert number.encode().hex().upper() == encoded


@pytest.mark.parametrize("field", ["", "123", "12345", "12a4", "١٢٣٤"])
def test_a_fascn_that_is_none(field: str) -> None:
    with pytest.raises(ValueError, match="4 digits"):
        FascN(agency=field).encode()


def cms(tmp_path: Path, content: bytes, *options: str | Path) -> bytes:
    """What `openssl cms` makes of a signature; it must be taken."""
    file = tmp_path / "cms"
    file.write_bytes(content)
    done = subprocess.run(
        ["openssl", "cms", "-inform", "DER", "-in", file, *options],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@meets("D6", "D7")
def test_the_chuids_signature(host: Host, tmp_path: Path) -> None:
    found = fields(host, "chuid")
    signed = b"".join(encode(tag, value) for tag, value in found if tag != 0x3E)
    signature = dict(found)[0x3E]
    (tmp_path / "content").write_bytes(signed)
    cms(tmp_path, signature, "-verify", "-noverify", "-binary", "-content", tmp_path / "content")
    shown = cms(tmp_path, signature, "-cmsout", "-print").decode()
    for line in (
        "version: 3",
        f"eContentType: undefined ({CHUID_SIGNED})",
        "eContent: <ABSENT>",
        "object: undefined (2.16.840.1.101.3.6.5)",
        "object: messageDigest (1.2.840.113549.1.9.4)",
        "object: contentType (1.2.840.113549.1.9.3)",
    ):
        assert line in shown, line
    assert shown.count("d.certificate:") == 1
    assert shown.count("d.issuerAndSerialNumber:") == 1
    issuer = x509.load_der_x509_certificate(host.card.memory.contents.issuer.certificate)
    purposes = issuer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [purpose.dotted_string for purpose in purposes] == ["2.16.840.1.101.3.6.7"]
    own = x509.load_der_x509_certificate(credentials()[3].certificate)
    assert validity(issuer)[1] > validity(own)[1]
    assert validity(issuer)[0] <= NOW


@meets("D8", "D2")
def test_the_security_object(host: Host, tmp_path: Path) -> None:
    host.manage()
    host.verify()
    for printed in (b"", b"\x01\x04NAME\xfe\x00"):
        assert host.put("printed information", printed) == "90 00"
        found = fields(host, "security object")
        assert [tag for tag, _ in found] == [0xBA, 0xBB, 0xFE]
        mapping, signature, _ = (value for _, value in found)
        triples = {mapping[at]: mapping[at + 1 : at + 3].hex() for at in range(0, len(mapping), 3)}
        objects = {
            "3000": "chuid", "db00": "ccc", "6050": "discovery", "6060": "key history",
            **({"3001": "printed information"} if printed else {}),
        }  # fmt: skip
        assert set(triples.values()) == set(objects)
        issuer = x509.load_der_x509_certificate(host.card.memory.contents.issuer.certificate)
        signer = tmp_path / "signer.pem"
        signer.write_bytes(issuer.public_bytes(Encoding.PEM))
        lds = cms(tmp_path, signature, "-verify", "-noverify", "-binary",
                  "-certfile", signer, "-nointern")  # fmt: skip
        for group, container in triples.items():
            digest = hashlib.sha256(host.object(objects[container])).digest()
            assert bytes((0x02, 0x01, group, 0x04, 0x20)) + digest in lds
        assert b"d.certificate" not in cms(tmp_path, signature, "-cmsout", "-print")


def test_the_security_object_follows_what_is_written(host: Host) -> None:
    first = host.object("security object")
    assert host.object("security object") == first
    host.manage()
    assert host.put("chuid", b"\x30\x00\xfe\x00") == "90 00"
    assert host.object("security object") != first
    assert host.put("security object", b"mine") == "90 00"
    assert host.object("security object") == b"mine"


@meets("D12", "D2")
def test_discovery(host: Host) -> None:
    assert tlv(host.object("discovery")) == [
        (0x4F, bytes.fromhex("A000000308000010000100")),
        (0x5F2F, b"\x40\x00"),
    ]


@meets("D14", "D15", "D2")
def test_key_history(host: Host, blank: Host) -> None:
    assert fields(host, "key history") == [(0xC1, b"\1"), (0xC2, b"\0"), (0xFE, b"")]
    assert fields(blank, "key history") == [(0xC1, b"\0"), (0xC2, b"\0"), (0xFE, b"")]
    host.manage()
    assert host.put("5F C1 0E", b"another retired certificate") == "90 00"
    assert fields(host, "key history")[0] == (0xC1, b"\2")
    assert host.put("key history", b"\xc1\x01\x07") == "90 00"
    assert host.object("key history") == b"\xc1\x01\x07"


@meets("D2", "D26")
def test_certificates(host: Host) -> None:
    for name, item in zip(("9a", "9c", "9d", "9e", "82"), credentials(), strict=True):
        assert fields(host, name) == [(0x70, item.certificate), (0x71, b"\0"), (0xFE, b"")]


@meets("D26")
def test_a_long_certificate_is_compressed() -> None:
    name = "long " + "x" * 3000
    cert = certificate("x", rsa_key().public_key())
    long = (
        x509.CertificateBuilder()
        .subject_name(cert.subject).issuer_name(cert.subject)
        .public_key(rsa_key().public_key()).serial_number(5)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), False)
        .sign(rsa_key(), __import__("cryptography").hazmat.primitives.hashes.SHA256())
    )  # fmt: skip
    content = certificate_object(der(long))
    found = dict(tlv(content))
    assert found[0x71] == b"\1" and len(found[0x70]) < 1856
    assert gzip.decompress(found[0x70]) == der(long)
    assert certificate_in(content) == der(long)
    assert certificate_object(der(long)) == content, "the same certificate is the same object"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x70\x00", b"\x70\x05ab", b"\x70\x01a\x71\x01\x01", b"\x71\x01\x00\xfe\x00", b"\xff"],
)
def test_an_object_without_a_certificate(content: bytes) -> None:
    assert certificate_in(content) is None


def test_a_certificate_that_unpacks_to_very_much() -> None:
    content = encode(0x70, gzip.compress(bytes(1 << 24))) + encode(0x71, b"\1")
    unpacked = certificate_in(content)
    assert unpacked is not None and len(unpacked) <= 32768


@meets("D2", "D21")
def test_the_mandatory_objects(host: Host) -> None:
    for name in ("ccc", "chuid", "9a", "9e", "security object"):
        assert host.object(name)
    host.verify()
    for name in ("fingerprints", "face"):
        assert host.get(name) == (b"", "6A 82"), "for who personalises the card to write"


def test_other_certificates_make_another_card(make: Any) -> None:
    one, two = elliptic(0), elliptic(1)
    cards = [
        make(),
        make([credential("a", one)]),
        make([credential("a", one), credential("b", two)]),
        make([credential("b", two), credential("a", one)]),
    ]
    assert len({card.card.serial for card in cards}) == 4


def test_info(host: Host, blank: Host) -> None:
    info = host.card.info()
    assert (info.kind, info.label, info.tries_left, info.pin_kind) == ("piv", "cert1", 3, "card")
    assert info.names == tuple(item.name for item in credentials())
    assert info.certificates == tuple(item.certificate for item in credentials())
    assert blank.card.info().label == "PIV card"
    assert blank.card.info().certificates == ()


@pytest.mark.parametrize("written", ["", "30 00", "30 03 02 01 00", "00", "61 62"])
def test_a_certificate_that_is_none_is_not_shown(host: Host, written: str) -> None:
    """A host may write anything; what is told of the card must not fail on it."""
    assert host.manage() == "90 00"
    assert host.put("9a", encode(0x70, bytes.fromhex(written)) + encode(0x71, b"\0")) == "90 00"
    info = host.card.info()
    assert info.label == "cert2" and len(info.certificates) == 4
    assert [slot.certificate for slot in info.slots] == [None, 0, 1, 2, 3]


@pytest.mark.parametrize("year", [1951, 2020, 2049, 2050, 9990, 9999])
def test_whenever_the_certificates_end(make: Any, year: int) -> None:
    """Many never expire, and so say 9999; others have long."""
    end = datetime.datetime(year, 12, 31, 23, 59, 59)
    cert = certificate("x", elliptic(0).public_key(), datetime.datetime(1950, 1, 2), end)
    key = credential("x", elliptic(0)).key
    host = make([Credential("x", der(cert), key, None)])
    assert dict(fields(host, "chuid"))[0x35] == f"{year}1231".encode()
    issuer = x509.load_der_x509_certificate(host.card.memory.contents.issuer.certificate)
    assert validity(issuer)[0] <= NOW <= validity(issuer)[1]
