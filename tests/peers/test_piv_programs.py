# SPDX-License-Identifier: LGPL-2.1-or-later
"""What people use above OpenSC, with a key on a curve: ssh, TLS by curl, GnuTLS, NSS."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.key_material import certificate, key_pem, pem
from tests.peers.desk import OPENSC_MODULE, PIN, Desk
from tests.peers.piv import Issued, new_key
from tests.peers.servers import free_port, serving
from tests.peers.sshd import sshd
from tests.peers.stage import Stage


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return Issued(tmp_path_factory.mktemp("piv"), "P-256", "P-384", "P-256", "P-256")


@pytest.fixture(scope="module")
def desk(stage: Stage, issued: Issued) -> Iterator[Desk]:
    """A host that sees a PIV card with keys on curves."""
    seen = stage.host()
    stage.daemon.ctl("insert", "--card", "piv", "--certs", issued.items, "--wait")
    yield seen
    stage.daemon.ctl("remove", "--wait")


def test_ssh(desk: Desk, tmp_path: Path) -> None:
    listed = desk.say("ssh-keygen", "-D", OPENSC_MODULE)
    assert "ecdsa-sha2-nistp256" in listed and "ecdsa-sha2-nistp384" in listed
    keys = tmp_path / "authorized_keys"
    keys.write_text(listed)
    (tmp_path / "pin").write_text(PIN)
    ask = tmp_path / "askpass"
    ask.write_text(f"#!/bin/sh\ncat {tmp_path}/pin\n")
    ask.chmod(0o700)
    with sshd(desk, tmp_path, keys) as port:
        done = desk.run(
            "ssh", "-F", "none", "-p", str(port), "-o", f"PKCS11Provider={OPENSC_MODULE}",
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known_hosts",
            "-o", "PreferredAuthentications=publickey", "-o", "IdentityFile=none",
            "-o", "IdentityAgent=none", f"{getpass.getuser()}@127.0.0.1", "echo", "logged in",
            env={"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force",
                 "PATH": os.environ["PATH"]},
        )  # fmt: skip
    assert (done.returncode, done.stdout.decode().splitlines()[-1]) == (0, "logged in")


def test_curl_shows_a_server_who_it_is(desk: Desk, issued: Issued, tmp_path: Path) -> None:
    key = new_key("P-256")
    server = certificate("localhost", key.public_key())
    (tmp_path / "server.pem").write_bytes(pem(server) + key_pem(key))
    (tmp_path / "clients.pem").write_bytes(pem(issued.certificates[0]))
    port = free_port()
    argv = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www",
            "-cert", str(tmp_path / "server.pem"), "-verify", "1",
            "-CAfile", str(tmp_path / "clients.pem")]  # fmt: skip
    uri = f"pkcs11:id=%01;pin-value={PIN}"
    with serving(argv, port, tmp_path / "log"):
        page = desk.say(
            "curl", "--insecure", "--silent", "--show-error", "--max-time", "30",
            "--engine", "pkcs11", "--cert-type", "ENG", "--key-type", "ENG",
            "--cert", f"{uri};type=cert", "--key", f"{uri};type=private",
            f"https://127.0.0.1:{port}/",
            env={"PKCS11_MODULE_PATH": OPENSC_MODULE},
        )  # fmt: skip
    assert "Client certificate" in page
    assert "Subject: CN=P-256 1" in page or "Subject: CN = P-256 1" in page


def test_gnutls(desk: Desk, issued: Issued) -> None:
    """It looks for the public half of a key on a curve by the same words, and OpenSC calls the two
    halves otherwise: by its label no key on a curve is of use, by its id each is."""
    pin = {"GNUTLS_PIN": PIN}
    p11tool = ("p11tool", "--provider", OPENSC_MODULE)
    listed = desk.say(*p11tool, "--login", "--list-all", env=pin)
    assert "PIV AUTH key" in listed and "EC/ECDSA" in listed
    url = "pkcs11:object=Certificate%20for%20PIV%20Authentication;type=cert"
    assert pem(issued.certificates[0]).decode().strip() in desk.say(*p11tool, "--export", url)
    for key in ("01", "02", "04"):
        uri = f"pkcs11:id=%{key};type=private"
        said = desk.say(*p11tool, "--login", "--test-sign", uri, env=pin)
        assert "Signing using ECDSA-SHA256... ok" in said
        assert "Verifying against public key in the token... ok" in said


def test_nss(desk: Desk, tmp_path: Path) -> None:
    database = f"sql:{tmp_path}/nss"
    (tmp_path / "nss").mkdir()
    pins = desk.write("pins", f"{PIN}\n".encode())
    desk.say("certutil", "-N", "-d", database, "--empty-password")
    desk.say("modutil", "-dbdir", database, "-add", "OpenSC", "-libfile", OPENSC_MODULE, "-force")
    token = "P-256 1"
    listed = desk.say("certutil", "-L", "-d", database, "-h", token, "-f", pins)
    assert "Certificate for PIV Authentication" in listed
    keys = desk.say("certutil", "-K", "-d", database, "-h", token, "-f", pins)
    assert keys.count(" ec ") >= 3
