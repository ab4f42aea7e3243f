# SPDX-License-Identifier: LGPL-2.1-or-later
"""TLS on our links: each side shows a certificate, and takes the other's from its authorities."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from vccid.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files of one settings table.

    Attributes:
        table: the table, for messages.
        certificate: ours.
        key: its private key, without a password.
        authorities: those whose certificates a peer must show.
    """

    table: str
    certificate: str
    key: str
    authorities: str


def context(files: Files, *, server: bool) -> ssl.SSLContext | None:
    """TLS as the files want it, or None where none is named.

    Raises:
        ConfigError: some are named and not all, or they cannot be used.
    """
    named = (files.certificate, files.key, files.authorities)
    if not any(named):
        return None
    if not all(named):
        raise ConfigError(
            f"TLS of [{files.table}] takes three files, not all are named",
            "set its certificate, its key, and the authorities of the other side",
        )
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    # As OpenSSL has it by itself, whatever Python's release prefers: what made certificates for
    # Debian 12 may have left out their Authority Key Identifiers, which add nothing to trust.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        made.load_cert_chain(files.certificate, files.key, password=_no_password)
        made.load_verify_locations(cafile=files.authorities)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the TLS files of [{files.table}] cannot be used: {error}",
            "PEM files the daemon's user may read, the key without a password",
        ) from error
    return made


def _no_password() -> str:
    raise ValueError("the key is encrypted")
