# SPDX-License-Identifier: LGPL-2.1-or-later
"""SELECT, GET DATA and PUT DATA, whole, in parts and chained."""

from __future__ import annotations

import pytest

from tests.unit.card.piv.host import PIN, TAGS, Host, encode
from tests.unit.card.piv.requirements import meets

AID = "A0 00 00 03 08 00 00 10 00 01 00"
TEMPLATE = bytes.fromhex(
    "61 16"  # application property template
    "4F 0B A0 00 00 03 08 00 00 10 00 01 00"  # the AID
    "79 07 4F 05 A0 00 00 03 08"  # coexistent tag allocation authority
)


@meets("S1", "D1")
@pytest.mark.parametrize("length", range(5, 12))
def test_select(host: Host, length: int) -> None:
    assert host.select(bytes.fromhex(AID)[:length].hex()) == (TEMPLATE, "90 00")


def test_select_without_le(host: Host) -> None:
    """Yubico's tools leave Le out on T=1, and want the data all the same."""
    name = bytes.fromhex(AID)[:5]
    answer = host.raw(bytes.fromhex("00 A4 04 00 05") + name)
    assert answer == TEMPLATE + b"\x90\x00"


@meets("S1", "S4")
@pytest.mark.parametrize(
    "name",
    [
        "A0 00 00 03",
        "A0 00 00 03 08 00 00 10 00 01 01",
        "A0 00 00 03 08 00 00 10 00 01 00 00",
        "A0 00 00 03 97 43 49 44 5F 01 00",
        "A0 00 00 05 27 20 01 01",
        "A0 00 00 00 79 03 00",
    ],
)
def test_names_that_are_not_there(host: Host, name: str) -> None:
    assert host.verify() == "90 00"
    assert host.manage() == "90 00"
    assert host.select(name) == (b"", "6A 82")
    assert host.pin_status() == "90 00"
    assert host.put("5F 00 01", b"x") == "90 00"


@meets("S2")
def test_select_again(host: Host) -> None:
    assert host.verify() == "90 00"
    assert host.select()[1] == "90 00"
    assert host.pin_status() == "90 00"


@meets("S5")
def test_current_after_reset(host: Host) -> None:
    assert host.get("chuid")[1] == "90 00"
    host.verify()
    host.reset()
    assert host.pin_status() == "63 C3"


def test_selections_that_are_none(host: Host) -> None:
    assert host.hex("00 A4 00 0C 02 3F 00") == "6A 82"
    assert host.hex("00 A4 04 01 05 A0 00 00 03 08") == "6A 86"
    assert host.hex("00 A4 55 00 05 A0 00 00 03 08") == "6A 86"
    assert host.hex("00 A4 04 0C 05 A0 00 00 03 08") == "90 00"


@meets("G1", "D25")
def test_get_data(host: Host) -> None:
    whole, sw = host.get("9c")
    assert sw == "90 00" and whole[0] == 0x53
    assert (
        host.get("discovery")
        == (
            bytes.fromhex(
                "7E 12"  # discovery object
                "4F 0B A0 00 00 03 08 00 00 10 00 01 00"  # the AID
                "5F 2F 02 40 00"  # the application PIN satisfies the rules
            ),
            "90 00",
        )
    )


@meets("G1")
def test_get_data_by_pieces(host: Host) -> None:
    """OpenSC asks for eight bytes first, and drops the rest."""
    whole, _ = host.get("9c")
    first = host.raw(bytes.fromhex("00 CB 3F FF 05 5C 03 5F C1 0A 08"))
    assert first[:-2] == whole[:8] and first[-2:] == b"\x61\x00"
    assert host.get("chuid")[1] == "90 00", "the rest is dropped"
    answer = host.raw(bytes.fromhex("00 CB 3F FF 05 5C 03 5F C1 0A"))
    assert answer[:-2] == whole[:256] and answer[-2] == 0x61
    extended = host.raw(bytes.fromhex("00 CB 3F FF 00 00 05 5C 03 5F C1 0A 00 00"))
    assert extended == whole + b"\x90\x00"


@meets("G2", "D10")
@pytest.mark.parametrize("name", ["fingerprints", "face", "iris", "pairing", "printed information"])
def test_objects_behind_the_pin(host: Host, name: str) -> None:
    assert host.get(name) == (b"", "69 82"), "not told whether it is there"
    assert host.manage() == "90 00"
    assert host.put(name, b"content") == "90 00"
    assert host.get(name) == (b"", "69 82")
    assert host.verify() == "90 00"
    assert host.get(name) == (encode(0x53, b"content"), "90 00")
    assert host.put(name, b"") == "90 00"
    assert host.get(name) == (b"", "6A 82")


@meets("G2")
@pytest.mark.parametrize("tag", ["biometric group", "5F C1 22", "5F FF 00", "5F 00 01", "5F C1 24"])
def test_objects_that_are_not_there(host: Host, tag: str) -> None:
    assert host.get(tag) == (b"", "6A 82")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("00 CB 3F FE 05 5C 03 5F C1 02 00", "6A 86"),
        ("00 CB 00 00 05 5C 03 5F C1 02 00", "6A 86"),
        ("00 CB 3F FF", "6A 80"),
        ("00 CB 3F FF 03 5C 03 5F", "6A 80"),
        ("00 CB 3F FF 05 5C 02 5F C1 02", "6A 80"),
        ("00 CB 3F FF 05 5D 03 5F C1 02", "6A 80"),
        ("00 CB 3F FF 06 5C 03 5F C1 02 00", "6A 80"),
        ("00 CB 3F FF 02 5C 00", "6A 80"),
        ("00 CB 3F FF 03 5C 01 53", "6A 80"),
        ("00 CB 3F FF 05 5C 03 60 C1 02", "6A 82"),
        ("00 CB 3F FF 05 5C 84 FF FF FF", "6A 80"),
    ],
)
def test_tag_lists_that_are_none(host: Host, command: str, answer: str) -> None:
    assert host.hex(command) == answer


@meets("U1")
def test_put_data(blank: Host) -> None:
    assert blank.put("9a", b"new") == "69 82"
    assert blank.manage() == "90 00"
    for content in (b"new", b"x" * 3000, b"", b"short"):
        assert blank.put("9a", content) == "90 00"
        expected = (encode(0x53, content), "90 00") if content else (b"", "6A 82")
        assert blank.get("9a") == expected
    for name in ("discovery", "biometric group", "5F FF 10", "5F 00 01"):
        assert blank.put(name, b"other") == "90 00"
        tag = int.from_bytes(bytes.fromhex(TAGS.get(name, "53")), "big")
        assert blank.get(name) == (encode(tag, b"other"), "90 00")


@meets("U1")
def test_objects_too_large(blank: Host) -> None:
    assert blank.manage() == "90 00"
    assert blank.put("face", b"x" * 32768) == "90 00"
    assert blank.put("face", b"x" * 32769) == "6A 84"
    assert blank.put("5F 00 02", b"x" * 65000) == "6A 84"
    assert blank.verify() == "90 00"
    assert len(blank.object("face")) == 32768
    for number in range(31):
        assert blank.put(f"5F 10 {number:02X}", b"x" * 32768) in ("90 00", "6A 84")
    assert blank.put("5F 11 00", b"x" * 32768) == "6A 84", "all of them together have a limit"


@pytest.mark.parametrize(
    "data",
    [
        "",
        "5C 03 5F C1 05",
        "53 01 00",
        "53 01 00 5C 03 5F C1 05",
        "5C 03 5F C1 05 53 02 00",
        "5C 03 5F C1 05 53 01 00 00",
        "5C 01 7E 53 01 00",
        "7E 00",
        "7F 61 00",
        "7E 01 00 7E 01 00",
        "5C 03 5F C1 05 54 01 00",
    ],
)
def test_put_of_what_is_no_object(blank: Host, data: str) -> None:
    before = blank.card.memory.contents
    assert blank.manage() == "90 00"
    assert blank.sw("00 DB 3F FF", bytes.fromhex(data)) == "6A 80"
    assert blank.sw("00 DB 3F FE", bytes.fromhex(data)) == "6A 86"
    assert blank.card.memory.contents is before


@meets("A6", "D28")
def test_a_chain_broken_off(blank: Host) -> None:
    assert blank.manage() == "90 00"
    part = bytes.fromhex("10 DB 3F FF 08 5C 03 5F C1 05 53 02 61")
    assert blank.raw(part) == b"\x90\x00"
    assert blank.get("chuid")[1] == "90 00"
    assert blank.hex("00 DB 3F FF 01 62") == "6A 80", "nothing is left of it"
    assert blank.get("9a")[1] == "6A 82"
    assert blank.raw(part) == b"\x90\x00"
    assert blank.hex("00 DB 3F FF 01 62") == "90 00"
    assert blank.object("9a") == b"ab"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("0C CB 3F FF 05 5C 03 5F C1 02 00", "68 82"),
        ("04 20 00 80", "68 82"),
        ("01 CB 3F FF 05 5C 03 5F C1 02 00", "68 81"),
        ("80 CB 3F FF 05 5C 03 5F C1 02 00", "6E 00"),
        ("00 FF", "67 00"),
        ("00 CB 3F FF 06 5C 03", "67 00"),
        ("00 55 00 00", "6D 00"),
        ("00 C0 00 00 00", "69 85"),
    ],
)
def test_commands_that_are_none(host: Host, command: str, answer: str) -> None:
    assert host.hex(command) == answer


@meets("D28")
def test_all_eight_commands(host: Host) -> None:
    for ins in ("A4", "CB", "20", "24", "2C", "87", "DB", "47"):
        assert host.hex(f"00 {ins} 00 00") != "6D 00"


def test_a_session_that_is_over(host: Host) -> None:
    assert host.verify(PIN) == "90 00"
    host.reset()
    assert host.pin_status() == "63 C3"
