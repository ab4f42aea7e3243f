# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys on curves: what they sign and agree on, from which files, and what they refuse."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from tests.key_material import certificate, key_pem, pem
from vccid.errors import KeyOperationError, PrivateKeyMissing
from vccid.keys.base import EcPrivateKey
from vccid.keys.ec import P256, P384, X25519, ecdsa_der, fit_digest, point_of
from vccid.keys.file_key import file_key
from vccid.keys.files import load_file
from vccid.keys.holder import Holder
from vccid.keys.passwords import Passwords

ANYWHERE = Holder("a test's place", "any key", lambda public: True)

NIST = pytest.mark.parametrize(
    ("curve", "hash_"),
    [(ec.SECP256R1(), hashes.SHA256()), (ec.SECP384R1(), hashes.SHA384())],
    ids=["P-256", "P-384"],
)


def ours(key: object) -> EcPrivateKey:
    made = file_key(key)
    assert isinstance(made, EcPrivateKey)
    return made


def uncompressed(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@NIST
@pytest.mark.parametrize("digest", ["sha1", "sha224", "sha256", "sha384", "sha512"])
def test_a_digest_of_any_length(curve: ec.EllipticCurve, hash_: object, digest: str) -> None:
    key = ec.generate_private_key(curve)
    signature = ours(key).sign(hashlib.new(digest, b"message").digest())
    algorithm = Prehashed({20: hashes.SHA1(), 28: hashes.SHA224(), 32: hashes.SHA256(),
                           48: hashes.SHA384(), 64: hashes.SHA512()}[
        hashlib.new(digest).digest_size])  # fmt: skip
    key.public_key().verify(
        signature, hashlib.new(digest, b"message").digest(), ec.ECDSA(algorithm)
    )


@NIST
def test_agreement(curve: ec.EllipticCurve, hash_: object) -> None:
    one, two = ec.generate_private_key(curve), ec.generate_private_key(curve)
    assert ours(one).derive(uncompressed(two)) == two.exchange(ec.ECDH(), one.public_key())
    assert ours(one).size_bits == curve.key_size


@NIST
def test_points_off_the_curve(curve: ec.EllipticCurve, hash_: object) -> None:
    key = ec.generate_private_key(curve)
    whole = uncompressed(ec.generate_private_key(curve))
    bad = [
        b"",
        whole[:-1],
        whole + b"\0",
        whole[:-1] + bytes((whole[-1] ^ 1,)),
        b"\x02" + whole[1 : 1 + len(whole) // 2],
        b"\x04" + bytes(len(whole) - 1),
        b"\0",
        b"\x04" + b"\xff" * (len(whole) - 1),
    ]
    for point in bad:
        with pytest.raises(KeyOperationError, match="the point is not one of"):
            ours(key).derive(point)


def test_ed25519_signs_the_message() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    key.public_key().verify(ours(key).sign(b"a message"), b"a message")
    with pytest.raises(KeyOperationError, match="agrees on nothing"):
        ours(key).derive(bytes(32))


def test_x25519_agrees() -> None:
    one, two = x25519.X25519PrivateKey.generate(), x25519.X25519PrivateKey.generate()
    peer = two.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert ours(one).derive(peer) == two.exchange(one.public_key())
    assert ours(one).curve is X25519
    for point in (b"", bytes(31), bytes(32)):
        with pytest.raises(KeyOperationError, match="the point is not one of"):
            ours(one).derive(point)
    with pytest.raises(KeyOperationError, match="signs nothing"):
        ours(one).sign(b"")


def test_fit_digest() -> None:
    assert fit_digest(b"\1\2", P256) == bytes(30) + b"\1\2"
    assert fit_digest(bytes(range(64)), P384) == bytes(range(48))


def test_a_tokens_signature() -> None:
    assert (
        ecdsa_der(bytes(31) + b"\1" + bytes(31) + b"\x80")
        == bytes.fromhex(
            "30 07"  # SEQUENCE
            "02 01 01"  # r
            "02 02 00 80"  # s
        )
    )
    for broken in (b"", b"\1"):
        with pytest.raises(KeyOperationError):
            ecdsa_der(broken)


def test_a_curve_no_card_has() -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    assert file_key(key) is None
    assert point_of(key.public_key()) is None


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "Ed25519"],
)
@pytest.mark.parametrize("form", ["PEM", "PKCS#12"])
def test_from_files(tmp_path: Path, key: ec.EllipticCurvePrivateKey, form: str) -> None:
    cert = certificate("mine", key.public_key())
    if form == "PEM":
        content = pem(cert) + key_pem(key)
    else:
        content = pkcs12.serialize_key_and_certificates(b"m", key, cert, None, NoEncryption())
    path = tmp_path / "mine"
    path.write_bytes(content)
    found, loaded = load_file(path, Passwords(), "mine", ANYWHERE)
    assert found.public == point_of(key.public_key())
    assert isinstance(loaded, EcPrivateKey)
    assert len(loaded.sign(b"x" * 32)) > 60


def test_another_keys_certificate(tmp_path: Path) -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    path = tmp_path / "mine.pem"
    path.write_bytes(pem(certificate("mine", key.public_key())) + key_pem(other))
    with pytest.raises(PrivateKeyMissing, match="belongs to another certificate"):
        load_file(path, Passwords(), "mine", ANYWHERE)


def test_openssls_traditional_form(tmp_path: Path) -> None:
    """SEC 1's own structure, with its parameters before it, as `openssl ecparam -genkey` writes."""
    key = ec.generate_private_key(ec.SECP384R1())
    traditional = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"
    path = tmp_path / "mine.pem"
    path.write_bytes(parameters + traditional + pem(certificate("mine", key.public_key())))
    found, _ = load_file(path, Passwords(), "mine", ANYWHERE)
    assert found.public == point_of(key.public_key())
