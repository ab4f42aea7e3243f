# SPDX-License-Identifier: LGPL-2.1-or-later
"""The checks before a bare RSA operation, libcrypto's operation itself, and which keys fit."""

from __future__ import annotations

import itertools
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import given
from hypothesis import strategies as st

from tests.key_material import assert_signs, certificate, der, rsa_key
from vccid.errors import KeyOperationError, KeyUnsuitable, SourceUnusable
from vccid.keys.file_key import RsaFileKey
from vccid.keys.holder import pki_applet
from vccid.keys.libcrypto import RawRsa, rsa_modulus, wipe
from vccid.keys.rsa import Modulus, unpad_signature_block
from vccid.keys.x509 import parse_certificate

APPLET = "CAC PKI applet 2 (signature)"


def test_raw_is_the_power_of_d() -> None:
    key = RsaFileKey(rsa_key())
    numbers = rsa_key().private_numbers()
    for block in (bytes(256), bytes(255) + b"\1", b"\0\1" + b"\xff" * 253 + b"\0"):
        expected = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n)
        assert key.raw(block) == expected.to_bytes(256, "big")


@pytest.mark.parametrize("bits", [1024, 1032, 4096])
def test_every_size(bits: int) -> None:
    key = RsaFileKey(rsa_key(0, bits))
    assert key.size_bits == bits
    assert_signs(key.raw, der(certificate("a", rsa_key(0, bits).public_key())))


def test_blocks_that_do_not_fit() -> None:
    key = RsaFileKey(rsa_key())
    n = key.modulus.value
    for block in (b"", bytes(255), bytes(257)):
        with pytest.raises(KeyOperationError, match=f"{len(block)} bytes where the key takes 256"):
            key.raw(block)
    for value in (n, n + 1, 2**2048 - 1):
        with pytest.raises(KeyOperationError, match="not below"):
            key.raw(value.to_bytes(256, "big"))
    assert len(key.raw((n - 1).to_bytes(256, "big"))) == 256


def test_one_key_in_many_threads() -> None:
    key = RsaFileKey(rsa_key())
    cert = der(certificate("a", rsa_key().public_key()))
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(assert_signs, key.raw, cert) for _ in range(64)]:
            done.result()


@pytest.mark.parametrize(("seconds", "quick"), [(0.0002, True), (0.02, False)])
def test_a_key_tells_from_its_last_operation_whether_it_is_quick(
    monkeypatch: pytest.MonkeyPatch, seconds: float, quick: bool
) -> None:
    """By its thread's processor time: what else the machine does makes it no slower."""
    key = RsaFileKey(rsa_key())
    assert not key.is_quick
    clock = itertools.count(0.0, seconds)
    monkeypatch.setattr("vccid.keys.file_key.time.thread_time", lambda: next(clock))
    key.raw(bytes(256))
    assert key.is_quick == quick


def test_libcrypto_refuses_what_is_no_key() -> None:
    with pytest.raises(SourceUnusable):
        RawRsa(b"\x30\x03\x02\x01\x00", 256)


def test_wipe() -> None:
    secret = bytes(bytearray(b"a secret"))
    wipe(secret)
    assert secret == bytes(8)
    wipe(b"x")
    assert bytes([120])[0] == 120, "Python's shared one-byte objects must stay as they are"


@given(st.binary(max_size=32))
def test_unpad_gives_the_payload_back(payload: bytes) -> None:
    block = b"\0\1" + b"\xff" * (64 - 3 - len(payload)) + b"\0" + payload
    assert unpad_signature_block(block) == payload


@given(st.binary(max_size=70))
def test_unpad_refuses_or_reproduces(block: bytes) -> None:
    try:
        payload = unpad_signature_block(block)
    except KeyOperationError as error:
        assert "CKM_RSA_X_509" in error.message
        return
    assert b"\0\1" + b"\xff" * (len(block) - 3 - len(payload)) + b"\0" + payload == block


@pytest.mark.parametrize(
    "block",
    [
        b"\0\2" + b"\xff" * 20 + b"\0payload",
        b"\0\1" + b"\xff" * 7 + b"\0payload",
        b"\0\1" + b"\xff" * 9 + b"\xfe\0payload",
        b"\0\1" + b"\xff" * 30,
        b"\0\1",
    ],
)
def test_unpad_refuses(block: bytes) -> None:
    with pytest.raises(KeyOperationError):
        unpad_signature_block(block)


@pytest.mark.parametrize("bits", [1024, 2048, 2056, 4096])
def test_modulus_of_a_certificate(bits: int) -> None:
    key = rsa_key(0, bits).public_key()
    assert rsa_modulus(der(certificate("a", key))) == key.public_numbers().n


def test_modulus_of_a_certificate_for_pss_alone(tmp_path: Path) -> None:
    request = ["openssl", "req", "-x509", "-subj", "/CN=pss", "-nodes", "-newkey", "rsa-pss"]
    files = ["-keyout", tmp_path / "key", "-outform", "DER", "-out", tmp_path / "certificate"]
    bits = ["-pkeyopt", "rsa_keygen_bits:1024"]
    subprocess.run([*request, *bits, *files], check=True, capture_output=True, timeout=60)
    modulus = rsa_modulus((tmp_path / "certificate").read_bytes())
    assert modulus is not None and modulus.bit_length() == 1024


def test_modulus_of_what_has_none() -> None:
    whole = der(certificate("a", rsa_key().public_key()))
    assert rsa_modulus(whole + b"more") == rsa_key().public_key().public_numbers().n
    for cut in range(len(whole)):
        assert rsa_modulus(whole[:cut]) is None
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert rsa_modulus(der(certificate("a", elliptic))) is None


def _rsa_public(bits: int) -> object:
    return RSAPublicNumbers(65537, (1 << (bits - 1)) | 1).public_key()


@pytest.mark.parametrize(
    ("public", "kind"),
    [
        (ec.generate_private_key(ec.SECP256R1()).public_key(), "EC on secp256r1"),
        (ed25519.Ed25519PrivateKey.generate().public_key(), "Ed25519"),
        (_rsa_public(1016), "RSA of 1016 bits"),
        (_rsa_public(2050), "RSA of 2050 bits"),
        (_rsa_public(4104), "RSA of 4104 bits"),
    ],
)
def test_keys_no_applet_holds(public: object, kind: str) -> None:
    with pytest.raises(KeyUnsuitable) as caught:
        parse_certificate(der(certificate("a", public)), "mine", pki_applet(APPLET))
    assert caught.value.message == (
        f"the key of certificate mine is {kind}, which {APPLET} cannot hold"
    )
    assert caught.value.hint == (
        f"{APPLET} takes RSA keys of 1024 to 4096 bits in steps of 8; --card piv takes EC keys too"
    )


def test_no_certificate() -> None:
    with pytest.raises(SourceUnusable, match="mine is no X.509 certificate"):
        parse_certificate(b"\x30\x00", "mine", pki_applet(APPLET))


def test_validity() -> None:
    start, end = datetime(2020, 1, 2, tzinfo=UTC), datetime(2021, 3, 4, tzinfo=UTC)
    parsed = parse_certificate(
        der(certificate("a", rsa_key().public_key(), start, end)), "mine", pki_applet(APPLET)
    )
    assert parsed.validity_warning("mine", start) is None
    assert parsed.validity_warning("mine", end) is None
    assert (
        parsed.validity_warning("mine", datetime(2019, 1, 1, tzinfo=UTC))
        == "certificate mine is not valid before 2020-01-02; it still signs"
    )
    assert (
        parsed.validity_warning("mine", datetime(2022, 1, 1, tzinfo=UTC))
        == "certificate mine expired on 2021-03-04; it still signs"
    )


def test_modulus_of_odd_length() -> None:
    assert Modulus.of(0x1FF) == Modulus(0x1FF, 2)
    assert Modulus.of(0x1FF).encoded == b"\x01\xff"
