# SPDX-License-Identifier: LGPL-2.1-or-later
"""A certificate as the files programs want: PEM (RFC 7468), and OpenSSH's public key line."""

from __future__ import annotations

import base64
import logging
import textwrap
from typing import Final

from vccid import ber
from vccid.openssl_legacy import do_without

log = logging.getLogger(__name__)

#: RFC 7468, section 2.
_PEM_COLUMNS: Final = 64
#: [0] of TBSCertificate.
_VERSION: Final = 0xA0


def pem(der: bytes) -> bytes:
    """The certificate, whatever it is, in PEM."""
    body = textwrap.fill(base64.b64encode(der).decode("ascii"), _PEM_COLUMNS)
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n".encode("ascii")


def openssh(der: bytes, comment: str) -> bytes | None:
    """The line for authorized_keys (sshd(8)), or None for a key that OpenSSH does not take."""
    do_without()
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_der_public_key,
    )

    try:
        # The certificate itself may be one that `cryptography` refuses; its key is another thing.
        key = load_der_public_key(_key_info(der))
        line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except Exception as error:  # what a parser raises is no interface
        log.info("no public key for OpenSSH from %s: %s", comment, error)
        return None
    return line + b" " + comment.encode() + b"\n"


def _key_info(der: bytes) -> bytes:
    """SubjectPublicKeyInfo (RFC 5280, 4.1): behind version, if any, and five others."""
    fields = next(ber.elements(der)).parts()[0].parts()
    return fields[6 if fields[0].tag == _VERSION else 5].encoded
