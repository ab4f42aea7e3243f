# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys generated and imported, and Yubico's instructions."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.key_material import rsa_key, signature_block
from tests.unit.card.piv.host import PIN, PUK, Host, encode, tlv
from tests.unit.card.piv.requirements import meets
from vccid.errors import StateError
from vccid.keys.x509 import validity

CURVES = {0x11: ec.SECP256R1(), 0x14: ec.SECP384R1()}
FACTORY_PIN = b"123456"


@pytest.fixture
def managed(blank: Host) -> Host:
    """A blank card whose management key and PIN were proved."""
    assert blank.manage() == "90 00"
    assert blank.verify() == "90 00"
    return blank


def public_key(answer: bytes) -> Any:
    """What GENERATE's answer, or METADATA's member 04 in a 7F49, says."""
    ((tag, members),) = tlv(answer)
    assert tag == 0x7F49
    found = dict(tlv(members))
    if 0x81 in found:
        numbers = (int.from_bytes(found[tag], "big") for tag in (0x82, 0x81))
        return rsa.RSAPublicNumbers(*numbers).public_key()
    curve = {65: ec.SECP256R1(), 97: ec.SECP384R1()}[len(found[0x86])]
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, found[0x86])


@meets("U2")
@pytest.mark.parametrize("algorithm", [0x06, 0x07, 0x11, 0x14])
def test_generate(managed: Host, algorithm: int) -> None:
    answer, sw = managed.generate(0x9A, algorithm)
    assert sw == "90 00"
    public = public_key(answer)
    if algorithm in CURVES:
        digest = os.urandom(32)
        signature = managed.use(algorithm, 0x9A, digest)
        public.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    else:
        block = signature_block(b"message", public.key_size // 8)
        signature = managed.use(algorithm, 0x9A, block)
        public.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    again, _ = managed.generate(0x9A, 0x11)
    assert public_key(again).public_numbers() != public.public_numbers()
    assert managed.use(algorithm, 0x9A, b"") in ("6A 86", "6A 80"), "the old key is replaced"


def test_generate_ed25519_and_x25519(managed: Host) -> None:
    ((_, members),) = tlv(managed.generate(0x9A, 0xE0)[0])
    ((tag, point),) = tlv(members)
    assert tag == 0x86
    signature = managed.use(0xE0, 0x9A, b"any message of any length" * 9)
    ed25519.Ed25519PublicKey.from_public_bytes(point).verify(
        signature, b"any message of any length" * 9
    )
    ((_, members),) = tlv(managed.generate(0x9D, 0xE1)[0])
    ((_, point),) = tlv(members)
    peer = x25519.X25519PrivateKey.generate()
    ours = peer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    expected = peer.exchange(x25519.X25519PublicKey.from_public_bytes(point))
    assert managed.use(0xE1, 0x9D, ours, 0x85) == expected
    assert managed.use(0xE1, 0x9D, bytes(32), 0x85) == "6A 80"


@meets("U2")
def test_generate_is_refused(blank: Host) -> None:
    assert blank.generate(0x9A, 0x11) == (b"", "69 82")
    assert blank.manage() == "90 00"
    for reference in (0x04, 0x9B, 0x80, 0x00, 0x96):
        assert blank.generate(reference, 0x11) == (b"", "6A 86")
    for algorithm in (0x00, 0x03, 0x0A, 0x27, 0x99):
        assert blank.generate(0x9A, algorithm) == (b"", "6A 80")
    assert blank.generate(0x9A, 0x07, encode(0x81, b"\x03")) == (b"", "6A 80")
    for template in ("", "AC 00", "AC 03 80 01", "AD 03 80 01 11", "AC 04 80 02 11 11",
                     "AC 03 80 01 11 00", "AC 06 80 01 11 80 01 11", "AC 06 80 01 11 AA 01 07",
                     "AC 06 80 01 11 AB 01 09", "AC 05 80 01 11 99 00"):  # fmt: skip
        assert blank.sw("00 47 00 9A", bytes.fromhex(template)) == "6A 80"
    assert blank.use(0x11, 0x9A, bytes(32)) == "6A 86", "no key came of it"


def rsa_parts(key: rsa.RSAPrivateKey) -> bytes:
    numbers = key.private_numbers()
    half = key.key_size // 16
    parts = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    return b"".join(
        encode(tag, part.to_bytes(half, "big")) for tag, part in enumerate(parts, start=1)
    )


def test_import_rsa(managed: Host) -> None:
    assert managed.sw("00 FE 07 9A", rsa_parts(rsa_key(3))) == "90 00"
    signature = managed.use(0x07, 0x9A, signature_block(b"m"))
    rsa_key(3).public_key().verify(signature, b"m", padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("algorithm", CURVES)
def test_import_ec(managed: Host, algorithm: int) -> None:
    key = ec.generate_private_key(CURVES[algorithm])
    size = key.key_size // 8
    scalar = key.private_numbers().private_value.to_bytes(size, "big")
    assert managed.sw(f"00 FE {algorithm:02X} 9D", encode(0x06, scalar)) == "90 00"
    digest = os.urandom(32)
    signature = managed.use(algorithm, 0x9D, digest)
    key.public_key().verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def test_import_ed25519_and_x25519(managed: Host) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    assert managed.sw("00 FE E0 9A", encode(0x07, seed)) == "90 00"
    key.public_key().verify(managed.use(0xE0, 0x9A, b"m"), b"m")
    assert managed.sw("00 FE E1 9D", encode(0x08, seed)) == "90 00"


def test_import_is_refused(blank: Host) -> None:
    parts = rsa_parts(rsa_key(3))
    assert blank.sw("00 FE 07 9A", parts) == "69 82"
    assert blank.manage() == "90 00"
    for header in ("00 FE 07 9B", "00 FE 03 9A", "00 FE 55 9A"):
        assert blank.sw(header, parts) == "6A 86"
    zero, whole = encode(0x06, bytes(32)), encode(0x06, b"\xff" * 32)
    cases = [
        ("06", parts), ("07", b""), ("07", parts[:-3]), ("07", parts + encode(0x09, b"")),
        ("07", encode(1, b"\1") + encode(2, b"\1") + encode(3, b"\1") + encode(4, b"\1")
         + encode(5, b"\1")),
        ("11", zero), ("11", whole), ("11", encode(0x06, bytes(31))), ("11", parts),
        ("14", zero), ("E0", encode(0x06, bytes(32))), ("11", encode(0x06, b"\1" * 32) * 2),
    ]  # fmt: skip
    for algorithm, data in cases:
        assert blank.sw(f"00 FE {algorithm} 9A", data) == "6A 80", (algorithm, data.hex())
    assert blank.use(0x11, 0x9A, bytes(32)) == "6A 86"


def test_policies_of_a_new_key(managed: Host) -> None:
    digest = bytes(32)
    assert managed.generate(0x9A, 0x11, encode(0xAA, b"\3"))[1] == "90 00"
    assert isinstance(managed.use(0x11, 0x9A, digest), bytes)
    assert managed.use(0x11, 0x9A, digest) == "69 82"
    assert managed.generate(0x9C, 0x11, encode(0xAA, b"\1") + encode(0xAB, b"\2"))[1] == "90 00"
    managed.reset()
    assert isinstance(managed.use(0x11, 0x9C, digest), bytes)
    metadata = dict(tlv(managed.whole("00 F7 00 9C")[0]))
    assert metadata[0x02] == bytes((1, 2))


def test_version_and_serial(blank: Host, make: Any) -> None:
    assert blank.hex("00 FD 00 00 00") == "05 04 03 90 00"
    serial = blank.raw(bytes.fromhex("00 F8 00 00 00"))
    assert len(serial) == 6 and serial[0] < 0x80
    assert make().raw(bytes.fromhex("00 F8 00 00 00")) == serial, "the same card's is the same"


def test_metadata(host: Host) -> None:
    def metadata(reference: str) -> dict[int, bytes]:
        answer, sw = host.whole(f"00 F7 00 {reference}")
        assert sw == "90 00"
        return dict(tlv(answer))

    host.verify(b"000000")
    assert metadata("80") == {0x01: b"\xff", 0x05: b"\0", 0x06: bytes((3, 2))}
    assert metadata("9B") == {0x01: b"\x03", 0x02: b"\0\1", 0x05: b"\1"}
    shown = metadata("9C")
    assert (shown[0x01], shown[0x02], shown[0x03]) == (b"\x07", b"\3\1", b"\2")
    key = public_key(encode(0x7F49, shown[0x04]))
    assert key.public_numbers() == rsa_key(1).public_key().public_numbers()
    assert metadata("9E")[0x02] == b"\1\1"
    for reference in ("83", "04", "96", "00", "F9"):
        assert host.whole(f"00 F7 00 {reference}") == (b"", "6A 88")


def test_set_management_key_is_refused(blank: Host) -> None:
    good = bytes((0x03, 0x9B, 24)) + bytes(range(24))
    assert blank.sw("00 FF FF FF", good) == "69 82"
    assert blank.manage() == "90 00"
    for bad in (b"", good[:-1], good + b"\0", b"\x08" + good[1:], b"\x11" + good[1:],
                b"\x03\x9a" + good[2:], good[:3]):  # fmt: skip
        assert blank.sw("00 FF FF FF", bad) == "6A 80"
    assert blank.sw("00 FF FF 00", good) == "6A 86"
    assert blank.sw("00 FF 00 FF", good) == "6A 86"
    assert blank.sw("00 FF FF FF", good) == "90 00"
    blank.reset()
    assert blank.manage(bytes(range(24))) == "90 00"


@meets("D11")
def test_set_retries(blank: Host) -> None:
    assert blank.hex("00 FA 05 06") == "69 82"
    assert blank.manage() == "90 00"
    assert blank.hex("00 FA 05 06") == "69 82", "the PIN is wanted too"
    assert blank.verify() == "90 00"
    for counts in ("00 05", "05 00", "0B 05", "05 0B"):
        assert blank.hex(f"00 FA {counts}") == "6A 86"
    assert blank.hex("00 FA 05 06") == "90 00"
    blank.reset()
    assert blank.pin_status() == "63 C5"
    assert blank.verify(PIN) == "63 C4"
    assert blank.verify(FACTORY_PIN) == "90 00"
    assert blank.change("81", b"00000000", PUK) == "63 C5"
    assert blank.change("81", PUK, PUK) == "90 00"
    assert blank.change("80", FACTORY_PIN, PIN) == "90 00"
    assert blank.pin_status() == "90 00"
    blank.reset()
    assert blank.pin_status() == "63 C5", "the number of tries stays"


def test_reset(host: Host) -> None:
    """As ykman and yubico-piv-tool do it: PIN and PUK are blocked first."""
    assert host.manage() == "90 00"
    assert host.generate(0x9A, 0x11)[1] == "90 00"
    assert host.sw("00 FF FF FF", bytes((0x08, 0x9B, 16)) + bytes(16)) == "90 00"
    assert host.hex("00 FB 00 00") == "69 85"
    while host.sw("00 20 00 80", b"\xff" * 8) != "69 83":
        pass
    assert host.hex("00 FB 00 00") == "69 85"
    while host.sw("00 2C 00 80", b"\xff" * 16) != "69 83":
        pass
    assert host.hex("00 FB 01 00") == "6A 86"
    assert host.hex("00 FB 00 00") == "90 00"
    assert host.put("9a", b"x") == "69 82", "nothing is proved any longer"
    for reference in (0x9A, 0x9C, 0x9D, 0x9E, 0x82):
        assert host.hex(f"00 F7 00 {reference:02X}") == "6A 88"
    for name in ("9a", "9c", "9d", "9e", "82"):
        assert host.get(name) == (b"", "6A 82")
    assert host.get("chuid")[1] == "90 00"
    assert host.verify(FACTORY_PIN) == "90 00"
    assert host.change("81", PUK, PUK) == "90 00"
    assert host.manage() == "90 00"


def test_a_disk_that_is_full(make: Any) -> None:
    from vccid.card.piv.contents import MemoryKeeper

    class FullDisk(MemoryKeeper):
        def save(self, contents: object) -> None:
            raise StateError("the disk is full", "make room")

    host = make((), FullDisk())
    before = host.card.memory.contents
    assert host.manage() == "90 00"
    assert host.put("9a", b"x" * 1000) == "65 81"
    assert host.generate(0x9A, 0x11) == (b"", "65 81")
    assert host.sw("00 FF FF FF", bytes((0x08, 0x9B, 16)) + bytes(16)) == "65 81"
    assert host.card.memory.contents is before
    assert host.get("9a") == (b"", "6A 82")
    assert host.manage() == "90 00"


def test_attest(managed: Host) -> None:
    public = public_key(managed.generate(0x9A, 0x11, encode(0xAA, b"\3"))[0])
    managed.generate(0x9D, 0x07)
    scalar = (5).to_bytes(32, "big")
    assert managed.sw("00 FE 11 9C", encode(0x06, scalar)) == "90 00"
    signer = x509.load_der_x509_certificate(dict(tlv(managed.object("5F FF 01")))[0x70])
    for reference in ("9A", "9D"):
        answer, sw = managed.whole(f"00 F9 {reference} 00")
        assert sw == "90 00"
        cert = x509.load_der_x509_certificate(answer)
        assert cert.issuer == signer.subject
        signer.public_key().verify(  # type: ignore[union-attr, call-arg]
            cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256())
        )
        assert validity(cert) == validity(signer)
    told = {
        item.oid.dotted_string.rpartition("41482.3.")[2]: item.value.value  # type: ignore[attr-defined]
        for item in x509.load_der_x509_certificate(managed.whole("00 F9 9A 00")[0]).extensions
    }
    serial = managed.raw(bytes.fromhex("00 F8 00 00 00"))[:4]
    assert told["3"] == bytes((5, 4, 3)) and told["8"] == bytes((3, 1)) and told["9"] == b"\1"
    assert int.from_bytes(told["7"][2:], "big") == int.from_bytes(serial, "big")
    attested = x509.load_der_x509_certificate(managed.whole("00 F9 9A 00")[0]).public_key()
    assert attested.public_numbers() == public.public_numbers()  # type: ignore[union-attr]
    for reference in ("9C", "9E", "82", "9B", "00", "F9"):
        assert managed.hex(f"00 F9 {reference} 00") == "6A 80"
    assert managed.hex("00 F9 9A 01") == "6A 86"
