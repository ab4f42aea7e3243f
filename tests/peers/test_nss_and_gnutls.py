# SPDX-License-Identifier: LGPL-2.1-or-later
"""The card through opensc-pkcs11 in NSS and in GnuTLS."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.peers.desk import OPENSC_MODULE, PIN, Desk


@pytest.fixture
def user_database(desk: Desk, tmp_path: Path) -> str:
    """An NSS database of the user's that knows OpenSC's module."""
    name = f"sql:{tmp_path}"
    desk.say("certutil", "-N", "-d", name, "--empty-password")
    desk.say(
        "modutil", "-dbdir", name, "-add", "OpenSC", "-libfile", OPENSC_MODULE, "-force"
    )  # fmt: skip
    return name


def test_nss_lists_the_module_and_its_token(desk: Desk, user_database: str) -> None:
    shown = desk.say("modutil", "-dbdir", user_database, "-list", "OpenSC")
    assert re.search(r"Token Name: +cert1", shown)
    assert "Common Access Card" in shown


def test_nss_finds_three_user_certificates(desk: Desk, user_database: str) -> None:
    pin = desk.write("pin", f"{PIN}\n".encode())
    listed = desk.say("certutil", "-d", user_database, "-h", "all", "-L", "-f", pin)
    assert len(re.findall(r"^cert1:.* u,u,u *$", listed, re.MULTILINE)) == 3


def test_cms_signature_made_on_the_card_verifies(desk: Desk, user_database: str) -> None:
    pin = desk.write("pin", f"{PIN}\n".encode())
    message = desk.write("message", b"a message worth signing\n")
    signed, certificate, content = (desk.directory / name for name in ("cms", "signer", "content"))
    desk.say("pkcs15-tool", "--read-certificate", "0001", "--output", certificate)
    # Its own issuer: NSS signs with it only if the user trusts it.
    desk.say(
        "certutil", "-A", "-d", user_database, "-n", "card", "-t", "CT,CT,CT", "-i", certificate
    )
    desk.say(
        "cmsutil", "-S", "-d", user_database, "-f", pin, "-N", "cert1:CAC ID Certificate",
        "-i", message, "-o", signed,
    )  # fmt: skip
    desk.say(
        "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", signed,
        "-certfile", certificate, "-noverify", "-out", content,
    )  # fmt: skip
    assert content.read_bytes() == message.read_bytes()


def test_gnutls_lists_certificates_and_keys(desk: Desk) -> None:
    listed = desk.say(
        "p11tool", "--provider", OPENSC_MODULE, "--login", "--list-all", env={"GNUTLS_PIN": PIN}
    )
    assert listed.count("Type: X.509 Certificate") == 3
    assert listed.count("Type: Private key") == 3


@pytest.mark.parametrize("name", ["ID", "Email Signature", "Email Encryption"])
def test_gnutls_signs_and_verifies(desk: Desk, name: str) -> None:
    label = f"CAC {name} Certificate".replace(" ", "%20")
    shown = desk.say(
        "p11tool", "--provider", OPENSC_MODULE, "--login", "--test-sign",
        f"pkcs11:object={label};type=private", env={"GNUTLS_PIN": PIN},
    )  # fmt: skip
    assert "Verifying against private key parameters... ok" in shown
