# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys, certificates and NSS databases for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

#: DigestInfo of SHA-256 up to the digest (RFC 8017, 9.2 note 1).
SHA256_DIGEST_INFO: Final = bytes.fromhex(
    "30 31"  # SEQUENCE
    "30 0D 06 09 60 86 48 01 65 03 04 02 01 05 00"  # AlgorithmIdentifier
    "04 20"  # OCTET STRING of 32 bytes
)


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The same key for the same number, for making them is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def certificate(
    name: str,
    public: object,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> x509.Certificate:
    """A certificate signed by key 0, valid now unless told otherwise."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - timedelta(days=1))
        .not_valid_after(not_after or now + timedelta(days=1))
        .sign(rsa_key(), hashes.SHA256())
    )


def der(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(Encoding.DER)


def pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(Encoding.PEM)


def key_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(password))


def key_der(key: rsa.RSAPrivateKey, password: bytes = b"") -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, _encryption(password))


def p12(key: rsa.RSAPrivateKey, cert: x509.Certificate, password: bytes = b"") -> bytes:
    return pkcs12.serialize_key_and_certificates(
        b"friendly", key, cert, [certificate("issuer", rsa_key().public_key())],
        _encryption(password),
    )  # fmt: skip


def p12_for_nss(
    name: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, cert: x509.Certificate,
    password: str,
) -> bytes:  # fmt: skip
    """By openssl: Debian 13's cryptography writes no localKeyId, without which NSS takes no key."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return subprocess.run(
        ["openssl", "pkcs12", "-export", "-name", name, "-passout", f"pass:{password}"],
        input=private + cert.public_bytes(Encoding.PEM),
        check=True,
        capture_output=True,
    ).stdout


def _encryption(password: bytes) -> KeySerializationEncryption:
    return BestAvailableEncryption(password) if password else NoEncryption()


def signature_block(message: bytes, size: int = 256) -> bytes:
    """EMSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 9.2)."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(message)
    payload = SHA256_DIGEST_INFO + digest.finalize()
    return b"\x00\x01" + b"\xff" * (size - len(payload) - 3) + b"\x00" + payload


def assert_signs(raw: Callable[[bytes], bytes], cert: bytes) -> None:
    """The bare operation makes a signature that the certificate's key verifies."""
    public = x509.load_der_x509_certificate(cert).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    message = os.urandom(20)
    signature = raw(signature_block(message, public.key_size // 8))
    public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def run(*argv: str | Path, stdin: bytes = b"") -> bytes:
    """Run a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in argv],
        input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (argv, done.stdout.decode(errors="replace"))
    return done.stdout


class NssFolder:
    """An NSS database made by certutil.

    Attributes:
        path: its folder.
        password: "" where it has none.
    """

    def __init__(self, path: Path, password: str = "", *certificates: str) -> None:
        self.path = path
        self.password = password
        path.mkdir(parents=True)
        self._pins = path.parent / f"{path.name}.pins"
        self._pins.write_text(password + "\n")
        self.certutil("-N", *(() if password else ("--empty-password",)))
        for name in certificates:
            self.add(name)

    def certutil(self, *arguments: str | Path, stdin: bytes = b"") -> bytes:
        password = ("-f", str(self._pins)) if self.password else ()
        return run("certutil", "-d", f"sql:{self.path}", *password, *arguments, stdin=stdin)

    def add(self, name: str, *options: str) -> None:
        """A self-signed certificate with its key, by the command of QEMU's manual."""
        noise = self.path.parent / "noise"
        noise.write_bytes(os.urandom(64))
        self.certutil(
            "-x", "-t", "CT,CT,CT", "-S", "-s", f"CN={name}", "-n", name,
            "-z", noise, "-m", str(int.from_bytes(os.urandom(3), "big")), *options,
        )  # fmt: skip
