# SPDX-License-Identifier: LGPL-2.1-or-later
"""SoftHSM tokens for tests; the configuration is this process's, for SoftHSM reads it once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography import x509

from tests.key_material import der, key_der, run

MODULE: Final = "/usr/lib/softhsm/libsofthsm2.so"
PIN: Final = "24681357"
SO_PIN: Final = "1234567890"


def configure(folder: Path, *lines: str) -> Path:
    """Write a configuration with its token folder; returns the file, for SOFTHSM2_CONF."""
    (folder / "tokens").mkdir(parents=True)
    file = folder / "softhsm2.conf"
    file.write_text(
        "\n".join((f"directories.tokendir = {folder / 'tokens'}", "log.level = ERROR", *lines, ""))
    )
    return file


def make_token(label: str) -> None:
    """A new token in the folder SOFTHSM2_CONF names."""
    run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN,
        "--so-pin", SO_PIN)  # fmt: skip


def put(label: str, object_: str, id_: str, content: bytes, kind: str, *options: str) -> None:
    """Write a certificate or key (DER) onto a token."""
    file = Path(os.environ["SOFTHSM2_CONF"]).with_name("object")
    file.write_bytes(content)
    run("pkcs11-tool", "--module", MODULE, "--token-label", label, "--login", "--pin", PIN,
        "--write-object", file, "--type", kind, "--label", object_, "--id", id_,
        *options)  # fmt: skip


def put_pair(label: str, object_: str, id_: str, key: object, cert: x509.Certificate) -> None:
    """Write a certificate with its RSA key."""
    put(label, object_, id_, key_der(key), "privkey", "--usage-sign", "--usage-decrypt")
    put(label, object_, id_, der(cert), "cert")
