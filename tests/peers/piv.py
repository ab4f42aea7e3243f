# SPDX-License-Identifier: LGPL-2.1-or-later
"""PIV cards for the tests that look at them from outside."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.key_material import certificate, key_pem, pem
from tests.peers.daemon import BIN
from tests.peers.ifd_client import Gone, IfdClient
from tests.peers.stage import Stage

PUK = "12345678"

#: The factory's management key, as Yubico's tools and OpenSC's take it.
MANAGEMENT_KEY = "010203040506070801020304050607080102030405060708"

SUCCESS = bytes.fromhex("9000")


def connect(stage: Stage, reader: str = "vccid0") -> IfdClient:
    """A powered session, as soon as the daemon has its card back."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            host = IfdClient(stage.daemon.ifd(reader))
        except Gone:
            time.sleep(0.005)
            continue
        if host.power_on() is not None:
            return host
        host.close()
        time.sleep(0.005)
    raise AssertionError("the card did not come back")


def manage(host: IfdClient) -> None:
    """Prove the management key: what the card challenges with comes back encrypted."""
    answer = host.transmit(bytes.fromhex("00 87 03 9B 04 7C 02 81 00 00"))
    cipher = Cipher(algorithms.TripleDES(bytes.fromhex(MANAGEMENT_KEY)), modes.ECB()).encryptor()
    response = bytes.fromhex("00 87 03 9B 0C 7C 0A 82 08") + cipher.update(answer[4:12])
    assert host.transmit(response) == SUCCESS


def within_run(
    directory: Path, options: Sequence[str], script: str, wrapper: Sequence[str] = ()
) -> str:
    """What a shell says that runs, and succeeds, within `vccid run` with these options."""
    done = subprocess.run(
        [*wrapper, str(BIN / "vccid"), "run", *options, "--", "sh", "-c", script],
        cwd=directory, env={**os.environ, "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def new_key(kind: str) -> Any:
    """A key of a kind OpenSC knows too."""
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key({"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}[kind])


class Issued:
    """Certificates with their keys in files.

    Attributes:
        files: one for each, certificate and key in PEM.
        certificates: in the same order.
        keys: likewise.
    """

    def __init__(self, directory: Path, *kinds: str) -> None:
        self.files: list[Path] = []
        self.certificates: list[x509.Certificate] = []
        self.keys: list[Any] = []
        for number, kind in enumerate(kinds, start=1):
            key = new_key(kind)
            made = certificate(f"{kind} {number}", key.public_key())
            file = directory / f"piv{number}.pem"
            file.write_bytes(pem(made) + key_pem(key))
            self.files.append(file)
            self.certificates.append(made)
            self.keys.append(key)

    @property
    def items(self) -> str:
        """As --certs takes them."""
        return ",".join(map(str, self.files))
