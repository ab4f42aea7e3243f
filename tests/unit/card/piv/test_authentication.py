# SPDX-License-Identifier: LGPL-2.1-or-later
"""GENERAL AUTHENTICATE: each use, each key's rule, and what is refused."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.key_material import rsa_key, signature_block
from tests.unit.card.piv.host import MANAGEMENT_KEY, Host, ecb, elliptic, encode, encrypt
from tests.unit.card.piv.requirements import meets
from vccid.errors import KeyOperationError, PrivateKeyMissing, TokenGone, VccidError

P256, P384, RSA2048 = 0x11, 0x14, 0x07


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def assert_signed(key: ec.EllipticCurvePrivateKey, signature: bytes, digest: bytes) -> None:
    algorithm = {20: hashes.SHA1, 28: hashes.SHA224, 32: hashes.SHA256, 48: hashes.SHA384}
    key.public_key().verify(signature, digest, ec.ECDSA(Prehashed(algorithm[len(digest)]())))


@meets("A1", "A4")
def test_signatures_of_each_key(host: Host) -> None:
    digest = os.urandom(32)
    assert_signed(elliptic(1), host.use(P256, 0x9E, digest), digest)
    assert host.verify() == "90 00"
    assert_signed(elliptic(0), host.use(P256, 0x9A, digest), digest)
    longer = os.urandom(48)
    assert_signed(elliptic(0, ec.SECP384R1), host.use(P384, 0x9D, longer), longer)
    signature = host.use(RSA2048, 0x82, signature_block(b"message"))
    rsa_key(2).public_key().verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    assert host.verify() == "90 00"
    signature = host.use(RSA2048, 0x9C, signature_block(b"message"))
    rsa_key(1).public_key().verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("size", [20, 28, 32])
def test_a_digest_shorter_than_the_curve(host: Host, size: int) -> None:
    digest = os.urandom(size)
    assert_signed(elliptic(1), host.use(P256, 0x9E, digest), digest)


def test_members_in_any_order(host: Host) -> None:
    digest = os.urandom(32)
    answer = host.authenticate(P256, 0x9E, (0x81, digest), (0x82, b""))
    assert_signed(elliptic(1), answer, digest)


@meets("A3", "D11", "D13")
def test_the_rule_of_each_key(host: Host) -> None:
    digest = bytes(32)
    assert isinstance(host.use(P256, 0x9E, digest), bytes), "9E never wants the PIN"
    for algorithm, reference in ((P256, 0x9A), (RSA2048, 0x9C), (P384, 0x9D), (RSA2048, 0x82)):
        assert host.use(algorithm, reference, digest) == "69 82"
    assert host.verify() == "90 00"
    for _ in range(2):
        assert isinstance(host.use(P256, 0x9A, digest), bytes)
    assert host.use(RSA2048, 0x9C, signature_block(b"")) == "69 82", "another key was used since"


@meets("A3")
def test_the_signature_key_wants_the_pin_each_time(host: Host) -> None:
    block = signature_block(b"message")
    assert host.verify() == "90 00"
    assert host.get("discovery")[1] == "90 00", "OpenSC looks at it between"
    assert host.select()[1] == "90 00"
    assert isinstance(host.use(RSA2048, 0x9C, block), bytes)
    assert host.pin_status() == "90 00"
    assert host.use(RSA2048, 0x9C, block) == "69 82"
    assert host.verify() == "90 00"
    assert isinstance(host.use(RSA2048, 0x9C, block), bytes)


@meets("A4")
def test_agreement(host: Host) -> None:
    peer = ec.generate_private_key(ec.SECP384R1())
    assert host.verify() == "90 00"
    expected = peer.exchange(ec.ECDH(), elliptic(0, ec.SECP384R1).public_key())
    assert host.use(P384, 0x9D, point(peer), 0x85) == expected


@meets("A5")
def test_keys_that_agree_on_nothing(host: Host) -> None:
    peer = point(ec.generate_private_key(ec.SECP256R1()))
    assert host.verify() == "90 00"
    assert host.use(P256, 0x9A, peer, 0x85) == "6A 80"
    assert host.use(P256, 0x9E, peer, 0x85) == "6A 80"


@meets("A1")
def test_points_off_the_curve(host: Host) -> None:
    whole = point(ec.generate_private_key(ec.SECP384R1()))
    assert host.verify() == "90 00"
    for bad in (b"", whole[:-1], whole + b"\0", whole[:-1] + bytes((whole[-1] ^ 1,)), b"\4" * 97):
        assert host.use(P384, 0x9D, bad, 0x85) == "6A 80"


@meets("A1")
def test_blocks_that_do_not_fit(host: Host) -> None:
    modulus = rsa_key(2).public_key().public_numbers().n
    blocks = [bytes(255), bytes(257), modulus.to_bytes(256, "big"), b"\xff" * 256]
    assert host.verify() == "90 00"
    for block in blocks:
        assert host.use(RSA2048, 0x82, block) == "6A 80"
    for digest in (b"x" * 33, b"x" * 64):
        assert host.use(P256, 0x9E, digest) == "6A 80"


@meets("A1")
@pytest.mark.parametrize(
    ("algorithm", "reference"),
    [(RSA2048, 0x9E), (P384, 0x9E), (0x00, 0x9E), (0x11, 0x83), (0x11, 0x04), (0x11, 0x80),
     (0x55, 0x9E), (0x27, 0x04), (0x0A, 0x9B), (0x11, 0x9B), (0x11, 0xF9)],
)  # fmt: skip
def test_another_algorithm_or_key(host: Host, algorithm: int, reference: int) -> None:
    host.verify()
    assert host.use(algorithm, reference, bytes(32)) == "6A 86"


@meets("A1")
@pytest.mark.parametrize(
    "template",
    [
        "",
        "7C",
        "7C 00",
        "7C 02 82 00",
        "7C 04 82 00 81",
        "7C 04 82 00 81 00 00",
        "7C 05 82 00 81 00",
        "7C 06 82 00 81 01 00 00",
        "7C 08 82 00 82 00 81 01 00 00",
        "7C 06 82 01 00 81 01 00",
        "7C 05 82 00 83 01 00",
        "7C 05 82 00 80 01 00",
        "7C 04 82 00 81 00",
        "7C 03 81 01 00",
        "7D 05 82 00 81 01 00",
        "7C 05 82 00 81 01 00 7C 00",
        "7C 84 FF FF FF FF",
    ],
)
def test_templates_that_are_none(host: Host, template: str) -> None:
    assert host.sw("00 87 11 9E", bytes.fromhex(template)) == "6A 80"


@meets("A6")
def test_a_chain_broken_off(host: Host) -> None:
    host.verify()
    template = encode(0x7C, encode(0x82, b"") + encode(0x81, signature_block(b"m")))
    first = bytes.fromhex("10 87 07 82 FF") + template[:255]
    last = bytes.fromhex("00 87 07 82 0B") + template[255:]
    assert host.raw(first) == b"\x90\x00"
    assert host.pin_status() == "90 00"
    assert host.raw(last) == b"\x6a\x80"
    assert host.raw(first) == b"\x90\x00"
    assert host.raw(last[:2] + b"\x06" + last[3:]) == b"\x6a\x86", "another P1 is another command"
    assert host.raw(first) == b"\x90\x00"
    assert host.raw(last)[-2:] == b"\x61\x08"


# -- the management key ------------------------------------------------------------------------


@meets("A4", "D27")
def test_external_authentication(blank: Host) -> None:
    for algorithm in (0x03, 0x00):
        blank.reset()
        assert blank.put("9a", b"x") == "69 82"
        challenge = blank.authenticate(algorithm, 0x9B, (0x81, b""))
        assert len(challenge) == 8
        response = encrypt(ecb(3, MANAGEMENT_KEY), challenge)
        assert blank.authenticate(algorithm, 0x9B, (0x82, response)) == "90 00"
        assert blank.put("9a", b"x") == "90 00"


def test_random_bytes(blank: Host) -> None:
    """OpenSC takes them from the challenge."""
    seen = {blank.authenticate(0x03, 0x9B, (0x81, b"")) for _ in range(20)}
    assert len(seen) == 20


@meets("A4")
@pytest.mark.parametrize(("algorithm", "size"), [(0x08, 16), (0x0A, 24), (0x0C, 32), (0x03, 24)])
def test_mutual_authentication(blank: Host, algorithm: int, size: int) -> None:
    key = bytes(range(7, 7 + size))
    assert blank.manage() == "90 00"
    data = bytes((algorithm, 0x9B, size)) + key
    assert blank.sw("00 FF FF FF", data) == "90 00"
    blank.reset()
    assert blank.manage() != "90 00"
    assert blank.manage(key, algorithm) == "90 00"
    assert blank.put("9a", b"x") == "90 00"


def test_mutual_authentication_without_an_empty_response(blank: Host) -> None:
    """As yubico-piv-tool leaves it out."""
    cipher = ecb(3, MANAGEMENT_KEY)
    witness = blank.authenticate(0x03, 0x9B, (0x80, b""))
    context = cipher.decryptor()
    plain = context.update(witness) + context.finalize()
    answer = blank.authenticate(0x03, 0x9B, (0x80, plain), (0x81, bytes(8)))
    assert answer == encrypt(cipher, bytes(8))


@meets("A7", "D27")
def test_a_failed_authentication_ends_the_one_before(blank: Host) -> None:
    for step in ((0x81, b""), (0x80, b"")):
        assert blank.manage() == "90 00"
        assert isinstance(blank.authenticate(0x03, 0x9B, step), bytes)
        wrong = ((0x82, bytes(8)),) if step[0] == 0x81 else ((0x80, bytes(8)), (0x81, bytes(8)))
        assert blank.authenticate(0x03, 0x9B, *wrong) == "69 82"
        assert blank.put("9a", b"x") == "69 82"


@meets("A7")
def test_an_abandoned_authentication_ends_the_one_before(blank: Host) -> None:
    assert blank.manage() == "90 00"
    assert isinstance(blank.authenticate(0x03, 0x9B, (0x81, b"")), bytes)
    assert blank.get("chuid")[1] == "90 00"
    assert blank.put("9a", b"x") == "69 82"


def test_a_challenge_serves_once(blank: Host) -> None:
    challenge = blank.authenticate(0x03, 0x9B, (0x81, b""))
    response = encrypt(ecb(3, MANAGEMENT_KEY), challenge)
    blank.get("chuid")
    assert blank.authenticate(0x03, 0x9B, (0x82, response)) == "6A 80"
    challenge = blank.authenticate(0x03, 0x9B, (0x81, b""))
    response = encrypt(ecb(3, MANAGEMENT_KEY), challenge)
    assert blank.authenticate(0x03, 0x9B, (0x82, response)) == "90 00"
    assert blank.authenticate(0x03, 0x9B, (0x82, response)) == "6A 80"
    assert blank.put("9a", b"x") == "69 82"


def test_the_card_does_not_answer_its_own_challenge(blank: Host) -> None:
    """Who has no key must not have the card encrypt for him what it asks of him."""
    challenge = blank.authenticate(0x03, 0x9B, (0x81, b""))
    assert blank.authenticate(0x03, 0x9B, (0x82, b""), (0x81, challenge)) == "6A 80"
    blank.authenticate(0x03, 0x9B, (0x80, b""))
    assert blank.authenticate(0x03, 0x9B, (0x82, b""), (0x81, challenge)) == "6A 80"
    witness = blank.authenticate(0x03, 0x9B, (0x80, b""))
    assert blank.authenticate(0x03, 0x9B, (0x80, witness), (0x81, challenge)) == "69 82"
    assert blank.put("9a", b"x") == "69 82"


def test_the_wrong_management_key(blank: Host) -> None:
    assert blank.manage(bytes(range(24))) == "69 82"
    assert blank.manage(bytes(range(16)), 0x08) == "6A 86"
    assert blank.put("9a", b"x") == "69 82"


# -- a key that fails --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (TokenGone("it is gone", "bring it back"), "64 00"),
        (PrivateKeyMissing("it is not there"), "6A 88"),
        (KeyOperationError("it is locked"), "6A 80"),
    ],
)
def test_a_key_that_fails(host: Host, error: VccidError, answer: str) -> None:
    key = host.card.memory.key(0x9E)
    assert key is not None

    def fail(data: bytes) -> bytes:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(key.private), "sign", lambda self, data: fail(data))
        assert host.use(P256, 0x9E, bytes(32)) == answer
    digest = hashlib.sha256(b"m").digest()
    assert_signed(elliptic(1), host.use(P256, 0x9E, digest), digest)
