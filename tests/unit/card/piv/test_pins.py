# SPDX-License-Identifier: LGPL-2.1-or-later
"""PIN and PUK: VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, in the standard's order."""

from __future__ import annotations

import pytest

from tests.unit.card.piv.host import PIN, PUK, Host
from tests.unit.card.piv.requirements import meets


@meets("V1")
@pytest.mark.parametrize("reference", ["00", "81", "96", "97", "98", "9A", "FF"])
def test_references_that_cannot_be_verified(host: Host, reference: str) -> None:
    for command in (f"00 20 00 {reference}", f"00 20 55 {reference}", f"00 20 FF {reference}"):
        assert host.hex(command) == "6A 88"


@meets("V3")
def test_another_p1(host: Host) -> None:
    for p1 in ("01", "80", "FE"):
        assert host.hex(f"00 20 {p1} 80") == "6A 86"
        assert host.hex(f"00 20 {p1} 80 08 36 35 34 33 32 31 FF FF") == "6A 86"
    assert host.pin_status() == "63 C3"


@meets("V4", "V5", "V12", "D27")
def test_verified_and_no_longer(host: Host) -> None:
    assert host.pin_status() == "63 C3"
    assert host.hex("00 20 00 80 00") == "63 C3", "as T=0 sends it"
    assert host.verify(b"000000") == "63 C2"
    assert host.hex("00 20 FF 80") == "90 00"
    assert host.pin_status() == "63 C2", "the counter is kept"
    assert host.verify() == "90 00"
    assert host.pin_status() == "90 00"
    assert host.hex("00 20 FF 80") == "90 00"
    assert host.pin_status() == "63 C3", "the right PIN has restored it"
    assert host.hex("00 20 FF 80 01 00") == "6A 80"


@meets("V10", "V6")
def test_blocked(host: Host) -> None:
    assert host.verify() == "90 00"
    for left in (2, 1, 0):
        assert host.verify(b"000000") == f"63 C{left}"
        assert host.pin_status() == f"63 C{left}", "what was verified is no longer"
    assert host.verify(b"000000") == "69 83"
    assert host.verify() == "69 83"
    assert host.pin_status() == "63 C0"


@meets("V8")
@pytest.mark.parametrize(
    "field",
    [
        "FF FF FF FF FF FF FF FF",
        "30 FF FF FF FF FF FF FF",
        "36 35 34 33 32 FF FF FF",
        "36 35 34 33 32 31",
        "36 35 34 33 32 31 FF",
        "36 35 34 33 32 31 FF FF FF",
        "36 35 34 33 32 31 FF 30",
        "00",
    ],
)
def test_a_malformed_pin_counts(host: Host, field: str) -> None:
    """So that a host that means to block the PIN can, as Yubico's reset does."""
    assert host.verify() == "90 00"
    assert host.sw("00 20 00 80", bytes.fromhex(field)) == "63 C2"
    assert host.pin_status() == "63 C2"


@meets("C1")
@pytest.mark.parametrize("reference", ["00", "82", "96", "98", "9B"])
def test_references_that_cannot_be_changed(host: Host, reference: str) -> None:
    assert host.change(reference, PIN, b"111111") == "6A 88"


@meets("C3", "C5")
@pytest.mark.parametrize(("reference", "right"), [("80", PIN), ("81", PUK)])
def test_change_with_the_wrong_old_one(host: Host, reference: str, right: bytes) -> None:
    assert host.verify() == "90 00"
    for left in (2, 1, 0):
        assert host.change(reference, b"00000000", b"11111111") == f"63 C{left}"
    assert host.change(reference, right, b"11111111") == "69 83"
    assert host.change(reference, right, b"") == "69 83", "before the new one is looked at"
    assert host.pin_status() == ("63 C0" if reference == "80" else "90 00")


@meets("C4", "C6")
@pytest.mark.parametrize("new", ["", "31 31 31 31 31", "41 42 43 44 45 46", "31 31 31 31 31 31 00"])
def test_change_to_a_malformed_pin(host: Host, new: str) -> None:
    assert host.verify() == "90 00"
    for old in (PIN, b"000000"):
        assert host.change("80", old, bytes.fromhex(new)) == "6A 80"
        assert host.pin_status() == "90 00"
    assert host.verify() == "90 00"
    for length in (0, 8, 15, 17):
        assert host.sw("00 24 00 80", bytes(length)) == "6A 80"


@meets("C7")
def test_change(host: Host) -> None:
    assert host.change("80", b"000000", b"111111") == "63 C2"
    assert host.change("80", PIN, b"111111") == "90 00"
    assert host.pin_status() == "90 00"
    host.reset()
    assert host.pin_status() == "63 C3"
    assert host.verify() == "63 C2"
    assert host.verify(b"111111") == "90 00"
    assert host.change("81", PUK, bytes(range(8))) == "90 00"
    assert host.unblock(PUK, PIN) == "63 C2"
    assert host.unblock(bytes(range(8)), PIN) == "90 00"
    assert host.hex("00 24 01 80") == "6A 86"


@meets("R1")
def test_another_reference_is_not_reset(host: Host) -> None:
    for reference in ("00", "81", "96"):
        assert host.sw(f"00 2C 00 {reference}", PUK + b"111111\xff\xff") == "6A 88"
    assert host.sw("00 2C 01 80", PUK + b"111111\xff\xff") == "6A 86"


@meets("R4", "R2")
def test_reset_with_the_wrong_puk(host: Host) -> None:
    assert host.verify(b"000000") == "63 C2"
    assert host.verify() == "90 00"
    for left in (2, 1, 0):
        assert host.unblock(b"00000000", b"111111") == f"63 C{left}"
        assert host.pin_status() == "63 C3", "not verified, its counter kept"
    assert host.unblock(PUK, b"111111") == "69 83"
    assert host.verify() == "90 00"


@meets("R3")
def test_reset_to_a_malformed_pin(host: Host) -> None:
    assert host.unblock(PUK, b"1111") == "6A 80"
    assert host.unblock(PUK, b"abcdef") == "6A 80"
    assert host.unblock(b"0" * 8, b"abcdef") == "63 C2"
    for length in (0, 8, 15, 17):
        assert host.sw("00 2C 00 80", bytes(length)) == "6A 80"
    assert host.verify() == "90 00"


@meets("R5")
def test_reset(host: Host) -> None:
    for _ in range(3):
        host.verify(b"000000")
    assert host.unblock(PUK, b"111111") == "90 00"
    assert host.pin_status() == "63 C3", "unblocked, and not verified by that"
    assert host.verify() == "63 C2"
    assert host.verify(b"111111") == "90 00"
    assert host.unblock(PUK, b"222222") == "90 00"
    assert host.pin_status() == "90 00", "kept"
