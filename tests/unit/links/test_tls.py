# SPDX-License-Identifier: LGPL-2.1-or-later
"""The TLS contexts made from a user's files, shaken hands with in memory."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.frontends.tls_files import make_authority
from vccid.errors import ConfigError
from vccid.links import tls


def context(directory: Path, name: str) -> ssl.SSLContext:
    own = str(directory / f"{name}.pem")
    files = tls.Files("usbip", own, own, str(directory / "ca.pem"))
    made = tls.context(files, server=name == "server")
    assert made is not None
    return made


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Both ends' handshakes to their end; the server's verdict on the client is there by then."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert not ends


@pytest.mark.parametrize("identifiers", [True, False])
def test_certificates_with_and_without_key_identifiers(tmp_path: Path, identifiers: bool) -> None:
    """As OpenSSL has it on every Debian; Python 3.13's default contexts refuse the latter."""
    make_authority(tmp_path, ec.SECP256R1(), identifiers=identifiers)
    shake_hands(context(tmp_path, "client"), context(tmp_path, "server"))


def test_what_is_made_as_documented_suits_the_strictest_peer(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, ec.SECP256R1())
    strict = authority.client_context()
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(strict, context(tmp_path, "server"))


@pytest.mark.parametrize("peer", ["client", "server"])
def test_another_authoritys_certificate_is_refused(tmp_path: Path, peer: str) -> None:
    for place in ("ours", "theirs"):
        (tmp_path / place).mkdir()
        make_authority(tmp_path / place, ec.SECP256R1())
    ends = [
        context(tmp_path / ("theirs" if name == peer else "ours"), name)
        for name in ("client", "server")
    ]
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(*ends)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[usbip\] takes three files"):
        tls.context(tls.Files("usbip", "a", "", "c"), server=True)
    with pytest.raises(ConfigError, match="cannot be used"):
        tls.context(tls.Files("usbip", "/a", "/b", "/c"), server=True)
