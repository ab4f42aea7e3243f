# SPDX-License-Identifier: LGPL-2.1-or-later
"""An authority with one server and one client certificate, for TLS in tests."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
_PEM = serialization.Encoding.PEM


@dataclass
class Authority:
    """Files in one directory: ca.pem, and NAME.pem (certificate and key) for its two ends."""

    directory: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=str(self.directory / "ca.pem")
        )
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.directory / "server.pem")
        return context

    def client_context(self, *, certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        if certificate:
            context.load_cert_chain(self.directory / "client.pem")
        return context


def make_authority(
    directory: Path, curve: ec.EllipticCurve, *, identifiers: bool = True
) -> Authority:
    """Make the keys and the certificates.

    Args:
        identifiers: whether the certificates tell their keys' identifiers, as RFC 5280, 4.2.1.1
            and 4.2.1.2, wants it, and what Python 3.13 asks for where it is not told otherwise.
    """
    authority_key = ec.generate_private_key(curve)
    issuer = _Issuer("authority", authority_key, identifiers)
    authority = _certificate("authority", authority_key, issuer, is_ca=True)
    (directory / "ca.pem").write_bytes(authority.public_bytes(_PEM))
    for name in ("server", "client"):
        key = ec.generate_private_key(curve)
        certificate = _certificate(name, key, issuer, is_ca=False)
        (directory / f"{name}.pem").write_bytes(
            certificate.public_bytes(_PEM)
            + key.private_bytes(
                _PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return Authority(directory)


@dataclass(frozen=True)
class _Issuer:
    name: str
    key: ec.EllipticCurvePrivateKey
    identifiers: bool


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: _Issuer, *, is_ca: bool
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer.name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    if is_ca:
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    if issuer.identifiers:
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(own, critical=False).add_extension(above, critical=False)
    return builder.sign(issuer.key, hashes.SHA256())
