# SPDX-License-Identifier: LGPL-2.1-or-later
"""PKI applets: certificates in each form, and private-key operations in any number of parts."""

from __future__ import annotations

import threading
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.cards import (
    PIN,
    Driver,
    credential,
    select_command,
    three_credentials,
)
from tests.conversations.cac import PKI0, tags_and_values
from vccid.errors import (
    KeyOperationError,
    KeyUnsuitable,
    PasswordNeeded,
    PrivateKeyMissing,
    TokenGone,
    VccidError,
)
from vccid.iso7816 import status
from vccid.keys.base import Credential, RsaPrivateKey

MakeDriver = Callable[..., Driver]
VERIFY = "00 20 00 00 08 " + PIN.hex(" ")


@pytest.mark.parametrize(("bits", "units"), [(1024, 0x10), (3072, 0x30), (4096, 0x40)])
def test_key_sizes(make: MakeDriver, bits: int, units: int) -> None:
    held = credential(f"rsa{bits}", bits)
    driver = make(held)
    driver.hex(select_command(PKI0))
    assert f"43 04 06 {units:02X} 01 01" in driver.hex("80 56 01 00 1D")
    driver.hex(VERIFY)
    block = bytes(bits // 8 - 1) + b"\x02"
    length = (bits // 8).to_bytes(2, "big").hex()
    assert driver.transmit(bytes.fromhex("80 42 00 00 00" + length) + block + b"\x00\x00") == (
        held.key.raw(block) + status.SUCCESS
    )


# Certificates


def test_compressed_for_coolkey(make: MakeDriver) -> None:
    held = credential("cert1")
    driver = make(held, compress=True)
    driver.hex(select_command(PKI0))
    items = dict(tags_and_values(driver))
    assert items[0x71] == b"\x01"
    assert zlib.decompress(items[0x70]) == held.certificate


@pytest.mark.parametrize("le", [1, 0x64, 0xFF, 0x100])
def test_get_certificate(make: MakeDriver, le: int) -> None:
    """INS 36: Le bytes, then as many as each 63xx says."""
    held = credential("cert1")
    driver = make(held)
    driver.hex(select_command(PKI0))
    for _ in range(2):
        stored = b""
        answer = driver.transmit(bytes.fromhex("00 36 00 00") + bytes((le & 0xFF,)))
        while answer[-2] == 0x63:
            stored += answer[:-2]
            assert len(answer) - 2 == min(le, 256)
            assert answer[-1] == min(len(held.certificate) + 1 - len(stored), 255)
            answer = driver.transmit(bytes.fromhex("00 36 00 00") + bytes((le & 0xFF,)))
        assert answer[-2:] == status.SUCCESS
        assert stored + answer[:-2] == b"\x00" + held.certificate


def test_get_certificate_begins_again_with_select(make: MakeDriver) -> None:
    driver = make(credential("cert1"))
    driver.hex(select_command(PKI0))
    first = driver.hex("00 36 00 00 10")
    assert driver.hex("00 36 00 00 10") != first
    driver.hex(select_command(PKI0))
    assert driver.hex("00 36 00 00 10") == first


# Keys


def padded(message: bytes, key: RsaPrivateKey) -> bytes:
    """EMSA-PKCS1-v1_5 for SHA-256 (RFC 8017, 9.2)."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(message)
    info = bytes.fromhex("3031300D060960864801650304020105000420") + digest.finalize()
    return b"\x00\x01" + b"\xff" * (key.size_bits // 8 - len(info) - 3) + b"\x00" + info


def test_a_signature(driver: Driver) -> None:
    held = three_credentials()[1]
    driver.hex(select_command("A0 00 00 00 79 01 01"))
    driver.hex(VERIFY)
    block = padded(b"message", held.key)
    signature = driver.whole("00 42 00 00 00 01 00" + block.hex())
    public = x509.load_der_x509_certificate(held.certificate).public_key()
    assert isinstance(public, RSAPublicKey)
    public.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())


BLOCK = bytes(255) + b"\x02"
FORMS = [
    ["80 42 80 00 F0 {0:F0}", "80 42 00 00 10 {F0:100} 00"],  # OpenSC
    ["00 42 80 00 80 {0:80}", "00 42 00 00 80 {80:100} 00"],  # Apple
    ["80 42 80 00 01 {0:1}", "80 42 80 00 FE {1:FF}", "80 42 00 00 01 {FF:100} 00"],
    ["10 42 00 00 F0 {0:F0}", "00 42 00 00 10 {F0:100} 00"],  # ISO command chaining
    ["90 42 00 00 F0 {0:F0}", "80 42 00 00 10 {F0:100} 00"],
    ["10 42 80 00 40 {0:40}", "00 42 80 00 40 {40:80}", "00 42 00 00 80 {80:100} 00"],  # both
    ["00 42 00 00 00 01 00 {0:100} 00 00"],  # extended length
    ["00 42 80 00 F0 {0:F0}", "00 42 00 01 00", "00 42 00 00 10 {F0:100} 00"],  # a wrong P2 between
    ["00 42 80 00 F0 {0:F0}", "00 52 00 00 02 01 02 02", "00 42 00 00 10 {F0:100} 00"],
]


def filled(form: str) -> bytes:
    """A command whose {a:b} stands for that part of the block."""
    raw = b""
    for part in form.replace("}", "{").split("{"):
        start, colon, end = part.partition(":")
        raw += BLOCK[int(start, 16) : int(end, 16)] if colon else bytes.fromhex(part)
    return raw


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0][:11])
def test_a_block_in_parts(driver: Driver, form: list[str]) -> None:
    driver.hex(select_command(PKI0))
    driver.hex(VERIFY)
    answers = [driver.transmit(filled(command)) for command in form]
    assert answers[-1] == three_credentials()[0].key.raw(BLOCK) + status.SUCCESS


@pytest.mark.parametrize(
    "between",
    [
        select_command(PKI0),
        "00 42 40 00 01 00",  # a wrong P1
        "00 42 00 00 01 00",  # a last block that makes too few
    ],
)
def test_parts_that_are_forgotten(driver: Driver, between: str) -> None:
    driver.hex(select_command(PKI0))
    driver.hex(VERIFY)
    first, last = (filled(form) for form in FORMS[0])
    driver.transmit(first)
    driver.hex(between)
    assert driver.transmit(last) == status.DATA_INVALID


def test_parts_without_end(driver: Driver) -> None:
    """However much comes, it costs no memory, and is wrong in the end."""
    driver.hex(select_command(PKI0))
    driver.hex(VERIFY)
    part = bytes.fromhex("80 42 80 00 00 FF FF") + bytes(65_535)
    tracemalloc.start()
    try:
        for _ in range(20):
            assert driver.transmit(part) == status.SUCCESS
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < len(part)
    assert driver.send("80 42 00 00 00") == status.DATA_INVALID


def test_without_the_pin(driver: Driver) -> None:
    driver.hex(select_command(PKI0))
    assert driver.transmit(filled(FORMS[6][0])) == status.SECURITY_STATUS_NOT_SATISFIED
    driver.hex(VERIFY)
    driver.hex("00 20 00 00 04 31 31 31 31")
    assert (
        driver.transmit(filled(FORMS[6][0])) == status.SECURITY_STATUS_NOT_SATISFIED
    ), "a wrong PIN ends it"


def test_a_block_above_the_modulus(driver: Driver) -> None:
    driver.hex(select_command(PKI0))
    driver.hex(VERIFY)
    assert driver.send("80 42 00 00 00 01 00" + "FF" * 256) == status.DATA_INVALID


class FailingKey(RsaPrivateKey):
    def __init__(self, error: VccidError, quick: bool) -> None:
        self._error = error
        self._quick = quick

    @property
    def is_quick(self) -> bool:
        return self._quick

    @property
    def size_bits(self) -> int:
        return 1024

    def raw(self, block: bytes) -> bytes:
        raise self._error


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (KeyOperationError("refused"), status.DATA_INVALID),
        (PrivateKeyMissing("not there"), status.REFERENCED_DATA_NOT_FOUND),
        (TokenGone("pulled"), status.EXECUTION_ERROR),
        (PasswordNeeded("locked"), status.NO_PRECISE_DIAGNOSIS),
    ],
)
@pytest.mark.parametrize("quick", [False, True])
def test_a_key_that_fails(
    make: MakeDriver,
    caplog: pytest.LogCaptureFixture,
    error: VccidError,
    answer: bytes,
    quick: bool,
) -> None:
    held = credential("small0", 1024)
    driver = make(Credential("mine", held.certificate, FailingKey(error, quick), None))
    driver.hex(select_command(PKI0))
    driver.hex(VERIFY)
    assert driver.send("00 42 00 00 80" + "00" * 128 + "00") == answer
    [record] = caplog.records
    assert "mine" in record.getMessage() and error.message in record.getMessage()
    assert record.getMessage().startswith(f"SIGN/DECRYPT → {answer.hex().upper()} (")
    assert record.__dict__["card"] == driver.card.serial
    assert driver.send("00 20 00 00") == status.SUCCESS


class QuickKey(FailingKey):
    """Done where it is asked."""

    def raw(self, block: bytes) -> bytes:
        assert threading.current_thread() is threading.main_thread()
        return block


def test_a_quick_key_is_answered_at_once(make: MakeDriver) -> None:
    held = credential("small0", 1024)
    key = QuickKey(KeyOperationError("none"), quick=True)
    driver = make(Credential("mine", held.certificate, key, None))
    driver.hex(select_command(PKI0))
    driver.hex(VERIFY)
    assert driver.session.execute(bytes.fromhex("00 42 00 00 80" + "00" * 128)) == b"\x61\x80"


def test_keys_no_applet_can_hold(make: MakeDriver) -> None:
    held = credential("small0", 1024)
    other = credential("cert1")
    with pytest.raises(KeyUnsuitable, match="2048"):
        make(Credential("mixed", other.certificate, held.key, None))
    with pytest.raises(KeyUnsuitable, match="768 bits"):
        make(credential("tiny", 768))
    with pytest.raises(KeyUnsuitable, match="none is no certificate of an RSA key"):
        make(Credential("none", b"\x30\x00", held.key, None))
