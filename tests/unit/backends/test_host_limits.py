# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a card holds and its readers cannot use: warned of, once, with the way out."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from tests.cards import Driver, RsaKey, card_with_pin
from tests.key_material import NssFolder, rsa_key
from tests.odd_certificates import KEY, certificate, common_name, extension, tlv
from vccid.backends.certificates import CertificateBackend, CertificateRequest
from vccid.backends.host_limits import cac_warnings, is_pin_for_hosts, password_warning
from vccid.card.state import StateStore
from vccid.keys.base import Credential
from vccid.readers.card_threads import CardThreads

#: An extension's, of nobody's.
OID = bytes.fromhex("2A 03 04")


def credential(name: str, der: bytes, bits: int = 1024) -> Credential:
    return Credential(name, der, RsaKey(rsa_key(0, bits)), None)


def of_size(content: bytes) -> bytes:
    return certificate(extensions=[extension(OID, tlv(4, content))])


SQUEEZABLE, DENSE = of_size(bytes(5000)), of_size(os.urandom(5000))


@pytest.mark.parametrize("bits", [1024, 2048, 3072])
def test_what_opensc_knows(bits: int) -> None:
    assert cac_warnings([credential("a", certificate(), bits)]) == []


def test_sizes_of_keys_opensc_does_not_know() -> None:
    wide = [credential(name, certificate(), 4096) for name in "aab"]
    (warning,) = cac_warnings(wide)
    assert warning.startswith("the key of a, b has a size that OpenSC's CAC driver does not know")
    assert warning.endswith("take RSA of 2048 or 3072 bits")


def test_large_certificates() -> None:
    (squeezed,) = cac_warnings([credential("a", SQUEEZABLE)])
    assert "is kept compressed, which OpenSC reads from version 0.24 on" in squeezed
    (too_large,) = cac_warnings([credential("a", DENSE)])
    assert "OpenSC shows no certificate over 4095 bytes" in too_large


@pytest.mark.parametrize(
    ("der", "compressed"), [(SQUEEZABLE, True), (DENSE, False)], ids=["squeezable", "dense"]
)
def test_a_large_certificate_is_compressed_where_that_helps(
    tmp_path: Path, der: bytes, compressed: bool
) -> None:
    item = Credential("a", der, RsaKey(KEY), None)
    driver = Driver(card_with_pin([item], tmp_path))
    try:
        driver.hex("00 A4 04 00 07 A0 00 00 00 79 01 00")
        values = _buffer(driver, "02")
        information, stored = values[:1], values[1:]
        assert information == (b"\1" if compressed else b"\0")
        assert (zlib.decompress(stored) if compressed else stored) == der
        assert driver.card.info().certificates == (der,)
    finally:
        driver.close()


def _buffer(driver: Driver, which: str) -> bytes:
    """READ BUFFER (GSC-IS 2.1, 5.3.3) of all of it, without the count before it."""
    size = int.from_bytes(driver.whole(f"80 52 00 00 02 {which} 02"), "little")
    data = b""
    while len(data) < size:
        offset, part = len(data) + 2, min(size - len(data), 0xF0)
        data += driver.whole(f"80 52 {offset >> 8:02X} {offset & 0xFF:02X} 02 {which} {part:02X}")
    return data


@pytest.mark.parametrize("text", [b"a:b", b"a\nb", b"a\rb"], ids=["colon", "LF", "CR"])
def test_names_nss_cannot_address(text: bytes) -> None:
    odd = credential("a", certificate(common_name(text)))
    (warning,) = cac_warnings([odd])
    assert "NSS cannot address one with a colon or line break" in warning
    assert cac_warnings([credential("b", certificate()), odd]) == [], "it names no token there"


@pytest.mark.parametrize(
    ("password", "fits"),
    [(b"1234", True), (b"12345678", True), (b"123", False), (b"123456789", False),
     ("pässe".encode(), False)],
)  # fmt: skip
def test_passwords_that_are_pins(password: bytes, fits: bool) -> None:
    assert is_pin_for_hosts(password) is fits


async def test_a_password_no_host_can_send(tmp_path: Path) -> None:
    database = NssFolder(tmp_path / "db", "correct horse", "cert1")
    backend = CertificateBackend(StateStore(tmp_path / "cards"), CardThreads)
    request = CertificateRequest(("cert1",), str(database.path))
    card, warnings = await backend.card(request, b"correct horse")
    assert password_warning(str(database.path)) in warnings
    card.close()
    card, warnings = await backend.card(request, b"correct horse", b"123456")
    assert password_warning(str(database.path)) not in warnings
    card.close()
