# SPDX-License-Identifier: LGPL-2.1-or-later
"""A certificate with its key, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_pem(path: Path, bits: int = 2048) -> Path:
    """A self-signed certificate and its RSA key in one PEM file; its common name is the file's.

    The key alone is beside it, with suffix .key.
    """
    key, certificate = path.with_suffix(".key"), path.with_suffix(".certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-days", "2",
         "-subj", f"/CN={path.stem}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    path.write_bytes(certificate.read_bytes() + key.read_bytes())
    return path
