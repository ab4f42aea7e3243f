# SPDX-License-Identifier: LGPL-2.1-or-later
"""A certificate as the files programs want: PEM (RFC 7468), and OpenSSH's public key line."""

from __future__ import annotations

import base64
import logging
import textwrap
from typing import Final

log = logging.getLogger(__name__)

#: RFC 7468, section 2.
_PEM_COLUMNS: Final = 64


def pem(der: bytes) -> bytes:
    """The certificate, whatever it is, in PEM."""
    body = textwrap.fill(base64.b64encode(der).decode("ascii"), _PEM_COLUMNS)
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n".encode("ascii")


def openssh(der: bytes, comment: str) -> bytes | None:
    """The line for authorized_keys (sshd(8)), or None for a key that OpenSSH does not take."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_der_x509_certificate(der).public_key()
        line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        log.info("no public key for OpenSSH from %s: %s", comment, error)
        return None
    return line + b" " + comment.encode() + b"\n"
