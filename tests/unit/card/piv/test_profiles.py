# SPDX-License-Identifier: LGPL-2.1-or-later
"""A card that is taken for a YubiKey, and what it then does otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.card.piv.host import MANAGEMENT_KEY, PIN, Host, credentials, encode, tlv
from vccid.card.piv.profiles import PROFILES
from vccid.card.touch import Touch, TouchMode
from vccid.settings import looks

MANAGEMENT = "A0 00 00 05 27 47 11 17"
P256, ED25519, RSA_3072, AES_192 = 0x11, 0xE0, 0x05, 0x0A
SERIAL = 12345678


@pytest.fixture
def old(make: Callable[..., Host]) -> Host:
    """A blank 5.4."""
    return make(profile=PROFILES["yubikey-5"], number=SERIAL)


@pytest.fixture
def new(make: Callable[..., Host]) -> Host:
    """A blank 5.7, the management key proved."""
    host = make(profile=PROFILES["yubikey-5.7"], number=SERIAL)
    assert host.manage(MANAGEMENT_KEY, AES_192) == "90 00"
    return host


def test_names_are_the_same_wherever_they_are_given() -> None:
    assert {name: profile.name for name, profile in PROFILES.items()} == looks.PROFILES


def test_identity(old: Host, new: Host) -> None:
    for host, version in ((old, "05 04 03"), (new, "05 07 01")):
        assert host.hex("00 FD 00 00") == f"{version} 90 00"
        assert host.hex("00 F8 00 00") == "00 BC 61 4E 90 00"
        assert host.hex("00 F7 00 96") == "6A 88"


def test_keys_of_the_version_alone(old: Host, new: Host) -> None:
    assert old.manage() == "90 00"
    for algorithm in (ED25519, RSA_3072):
        assert old.generate(0x9A, algorithm)[1] == "6A 80"
    assert new.generate(0x9A, ED25519)[1] == "90 00"


def test_a_new_card_has_the_versions_management_key(new: Host, old: Host) -> None:
    def told(host: Host) -> bytes:
        return dict(tlv(host.whole("00 F7 00 9B")[0]))[0x01]

    assert (told(old), told(new)) == (b"\x03", b"\x0a")
    assert new.manage(MANAGEMENT_KEY, AES_192) == "90 00"


def test_words_where_no_such_key_is(old: Host) -> None:
    assert old.use(P256, 0x9A, bytes(32)) == "6A 80"


def test_every_key_agrees(old: Host) -> None:
    assert old.manage() == "90 00" and old.generate(0x9A, P256)[1] == "90 00"
    old.verify()
    peer = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    point = b"\x04" + peer.x.to_bytes(32, "big") + peer.y.to_bytes(32, "big")
    assert len(old.use(P256, 0x9A, point, 0x85)) == 32


def test_a_select_ends_what_was_proved(old: Host) -> None:
    assert old.verify() == "90 00" and old.pin_status() == "90 00"
    old.select()
    assert old.pin_status() == "63 C3"


def test_tries_beyond_what_the_standard_allows(old: Host) -> None:
    assert old.manage() == "90 00" and old.verify() == "90 00"
    assert old.hex("00 FA FF FF") == "90 00"


def test_move_and_delete(new: Host) -> None:
    public, _ = new.generate(0x9A, P256, encode(0xAA, b"\x03"))
    assert new.hex("00 F6 82 9A") == "90 00"
    assert new.hex("00 F7 00 9A") == "6A 88"
    moved = dict(tlv(new.whole("00 F7 00 82")[0]))
    assert moved[0x02][0] == 3 and encode(0x7F49, moved[0x04]) == public
    assert new.hex("00 F6 FF 82") == "90 00"
    assert new.hex("00 F7 00 82") == new.hex("00 F6 FF 82") == "6A 88"
    assert new.hex("00 F6 9B 82") == new.hex("00 F6 82 82") == "6A 86"
    new.reset()
    assert new.hex("00 F6 FF 82") == "69 82"


def test_a_key_of_a_certificate_given_cannot_move_and_can_go(make: Callable[..., Host]) -> None:
    host = make(credentials(), profile=PROFILES["yubikey-5.7"])
    assert host.manage(MANAGEMENT_KEY, AES_192) == "90 00"
    assert host.hex("00 F6 83 9A") == "69 85"
    assert host.hex("00 F6 FF 9A") == "90 00"
    assert host.hex("00 F7 00 9A") == "6A 88"


def test_no_move_before_its_version(old: Host) -> None:
    assert old.manage() == "90 00"
    assert old.hex("00 F6 82 9A") == "6D 00"


def test_an_attestation_by_whom_it_says(old: Host) -> None:
    assert old.manage() == "90 00" and old.generate(0x9A, P256)[1] == "90 00"
    signer = x509.load_der_x509_certificate(dict(tlv(old.object("5F FF 01")))[0x70])
    assert "vccid test CA (not Yubico)" in signer.subject.rfc4514_string()
    der, sw = old.whole("00 F9 9A 00")
    attested = x509.load_der_x509_certificate(der)
    assert sw == "90 00" and attested.issuer == signer.subject
    assert attested.subject.rfc4514_string() == "CN=YubiKey PIV Attestation 9a"
    key = signer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(attested.signature, attested.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    about = {e.oid.dotted_string[-1]: e.value for e in attested.extensions}
    assert about["3"].value == bytes((5, 4, 3))  # type: ignore[attr-defined]
    assert about["7"].value == bytes.fromhex("02 04 00 BC 61 4E")  # type: ignore[attr-defined]


def test_the_management_application(old: Host) -> None:
    assert old.verify() == "90 00"
    assert old.select(MANAGEMENT)[0] == b"Virtual mgr - FW version 5.4.3"
    config, sw = old.whole("00 1D 00 00")
    told = dict(tlv(config[1:]))
    assert sw == "90 00" and config[0] == len(config) - 1
    assert (told[0x02], told[0x03], told[0x05]) == (
        SERIAL.to_bytes(4, "big"),
        b"\x00\x10",
        bytes((5, 4, 3)),
    )
    assert old.hex("00 1D 01 00") == "6A 86"
    assert old.hex("00 1C 00 00") == old.hex("00 CB 3F FF 03 5C 01 7E") == "6D 00"
    old.select("A0 00 00 05 27 20 01")
    assert old.whole("00 1D 00 00") == (config, "90 00"), "what is not there is not selected"
    old.select()
    assert old.pin_status() == "63 C3"


def test_reset_of_the_device(old: Host) -> None:
    assert old.manage() == "90 00" and old.generate(0x9A, P256)[1] == "90 00"
    assert old.change("80", PIN, b"ABCDEF") == "90 00", "any bytes are a PIN"
    old.select(MANAGEMENT)
    assert old.hex("00 1F 00 01") == "6A 86"
    assert old.hex("00 1F 00 00") == "90 00"
    old.select()
    assert old.hex("00 F7 00 9A") == "6A 88"


def touched(host: Host, mode: TouchMode, patience: float = 0.01) -> Touch:
    """How a host's card is touched."""
    touch = host.card.touch
    touch.mode, touch.patience = mode, patience
    return touch


@pytest.mark.parametrize(("policy", "sw"), [(1, ""), (2, "69 85"), (3, "69 85")])
def test_a_touch_that_does_not_come(old: Host, policy: int, sw: str) -> None:
    assert old.manage() == "90 00"
    assert old.generate(0x9E, P256, encode(0xAB, bytes((policy,))))[1] == "90 00"
    touched(old, TouchMode.NEVER)
    answer = old.use(P256, 0x9E, bytes(32))
    assert answer == sw if sw else isinstance(answer, bytes)
    touched(old, TouchMode.ALWAYS)
    assert isinstance(old.use(P256, 0x9E, bytes(32)), bytes)


def test_a_management_key_that_wants_a_touch(old: Host) -> None:
    assert old.manage() == "90 00"
    assert old.sw("00 FF FF FE", bytes((3, 0x9B, 24)) + MANAGEMENT_KEY) == "90 00"
    assert dict(tlv(old.whole("00 F7 00 9B")[0]))[0x02] == b"\0\2"
    touched(old, TouchMode.NEVER)
    assert old.manage() == "69 85"
    touched(old, TouchMode.ALWAYS)
    assert old.manage() == "90 00"


async def test_a_touch_that_comes() -> None:
    touch = Touch(TouchMode.ASK, patience=30)
    assert not await touch.press(0)
    waiting = asyncio.ensure_future(touch.wait())
    assert await touch.press(30) and await waiting
    assert await touch.wait(remembered=True), "the last one is good for a while"
    waiting = asyncio.ensure_future(touch.wait())
    pressing = asyncio.ensure_future(touch.press(30))
    assert await pressing and await waiting, "and for a key that remembers none it is not"
    assert not await touch.press(0)
    waiting = asyncio.ensure_future(touch.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not await touch.press(0), "who has gone waits no more"
