# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each mechanism with each key through pkcs11-tool; openssl says whether it was right."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.peers.desk import Desk

KEYS = pytest.mark.parametrize("key", ["0001", "0002", "0003"])

MESSAGE = b"a message worth signing\n"

#: DigestInfo of SHA-256 up to the digest (RFC 8017, 9.2 note 1).
SHA256_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")

OAEP = (
    "-pkeyopt", "rsa_padding_mode:oaep",
    "-pkeyopt", "rsa_oaep_md:sha256",
    "-pkeyopt", "rsa_mgf1_md:sha256",
)  # fmt: skip


def sign(desk: Desk, key: str, mechanism: str, content: bytes, *options: str) -> Path:
    signature = desk.directory / "signature"
    signature.unlink(missing_ok=True)
    desk.pkcs11(
        "--sign", "--mechanism", mechanism, "--id", key, *options,
        "--input-file", desk.write("content", content), "--output-file", signature,
    )  # fmt: skip
    return signature


def decrypt(desk: Desk, key: str, mechanism: str, *options: str) -> bytes:
    plain = desk.directory / "plain"
    plain.unlink(missing_ok=True)
    desk.pkcs11(
        "--decrypt", "--mechanism", mechanism, "--id", key, *options,
        "--input-file", desk.directory / "secret", "--output-file", plain,
    )  # fmt: skip
    return plain.read_bytes()


def encrypt(desk: Desk, key: str, plain: bytes, *options: str) -> None:
    desk.say(
        "openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", desk.public_key(key), *options,
        "-in", desk.write("plaintext", plain), "-out", desk.directory / "secret",
    )  # fmt: skip


@KEYS
def test_sha256_rsa_pkcs(desk: Desk, key: str) -> None:
    signature = sign(desk, key, "SHA256-RSA-PKCS", MESSAGE)
    assert "Verified OK" in desk.say(
        "openssl", "dgst", "-sha256", "-verify", desk.public_key(key),
        "-signature", signature, desk.write("message", MESSAGE),
    )  # fmt: skip


@KEYS
def test_rsa_pkcs(desk: Desk, key: str) -> None:
    content = SHA256_DIGEST_INFO + hashlib.sha256(MESSAGE).digest()
    signature = sign(desk, key, "RSA-PKCS", content)
    desk.say(
        "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", desk.public_key(key),
        "-in", desk.write("content", content), "-sigfile", signature,
    )  # fmt: skip


@KEYS
def test_rsa_x_509_is_the_bare_operation(desk: Desk, key: str) -> None:
    block = b"\x00" + os.urandom(255)
    signature = sign(desk, key, "RSA-X-509", block)
    recovered = desk.directory / "recovered"
    desk.say(
        "openssl", "pkeyutl", "-verifyrecover", "-pubin", "-inkey", desk.public_key(key),
        "-pkeyopt", "rsa_padding_mode:none", "-in", signature, "-out", recovered,
    )  # fmt: skip
    assert recovered.read_bytes() == block


@KEYS
def test_rsa_pkcs_pss(desk: Desk, key: str) -> None:
    digest = hashlib.sha256(MESSAGE).digest()
    signature = sign(
        desk, key, "RSA-PKCS-PSS", digest,
        "--hash-algorithm", "SHA256", "--mgf", "MGF1-SHA256", "--salt-len", "32",
    )  # fmt: skip
    desk.say(
        "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", desk.public_key(key),
        "-in", desk.write("digest", digest), "-sigfile", signature, "-pkeyopt", "digest:sha256",
        "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:32",
    )  # fmt: skip


@KEYS
def test_decrypt_rsa_pkcs(desk: Desk, key: str) -> None:
    encrypt(desk, key, b"for your eyes only")
    assert decrypt(desk, key, "RSA-PKCS") == b"for your eyes only"


@KEYS
def test_decrypt_rsa_pkcs_oaep(desk: Desk, key: str) -> None:
    encrypt(desk, key, b"for your eyes only", *OAEP)
    options = ("--hash-algorithm", "SHA256", "--mgf", "MGF1-SHA256")
    assert decrypt(desk, key, "RSA-PKCS-OAEP", *options) == b"for your eyes only"
