# SPDX-License-Identifier: LGPL-2.1-or-later
"""Printed Information and Facial Image, by the standard's and GSA's rules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cards import at_once
from tests.unit.card.piv.host import NOW, PIN, PUK, Host, credential, elliptic, tlv
from tests.unit.card.piv.requirements import meets
from tests.unit.card.piv.test_objects import cms
from vccid.card.piv.choices import Choices
from vccid.card.piv.contents import CardMemory, MemoryKeeper, SharedContents
from vccid.card.piv.facial_image import MOST, Picture
from vccid.card.piv.fascn import FascN
from vccid.card.piv.pins import PivPin, Puk
from vccid.card.piv.piv_card import PivCard
from vccid.card.piv.slots import given_keys, guid_of, new_contents
from vccid.card.state import MemoryStateStore
from vccid.errors import KeySourceError, VccidError

JPEG = bytes.fromhex(
    "FF D8"
    "FF E0 00 10 4A 46 49 46 00 01 01 00 00 01 00 01 00 00"  # JFIF
    "FF C2 00 11 08 01 40 00 F0 03 01 22 00 02 11 01 03 11 01"  # 240 by 320
    "FF D9"
)
CODESTREAM = bytes.fromhex(
    "FF 4F FF 51 00 2F 00 00"
    "00 00 01 00 00 00 02 00 00 00 00 10 00 00 00 20"  # 240 by 480
    "FF D9"
)
JP2 = bytes.fromhex("00 00 00 0C 6A 50 20 20 0D 0A 87 0A") + bytes(40) + CODESTREAM


async def card_of(choices: Choices) -> PivCard:
    given = [credential("Cardholder", elliptic(0))]
    guid = guid_of([item.certificate for item in given])
    contents = new_contents(guid, given, NOW, choices=choices)
    memory = CardMemory(SharedContents(contents, MemoryKeeper()), given_keys(given), at_once)
    store, serial = MemoryStateStore(), guid.hex()
    pin = await PivPin.open(store, serial, at_once, PIN)
    puk = await Puk.open(MemoryStateStore(), serial, at_once, PUK)
    return PivCard(memory, pin, puk, lambda: contents)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "face.jpg"
    file.write_bytes(JPEG)
    return file


@pytest.fixture
def host(picture: Path) -> Iterator[Host]:
    host = Host(card_of(Choices(printed_information=True, facial_image=str(picture))))
    yield host
    host.close()


@meets("D2", "D10")
def test_printed_information(host: Host) -> None:
    assert host.get("printed information") == (b"", "69 82")
    host.verify()
    found = tlv(host.object("printed information"))
    assert [tag for tag, _ in found] == [0x01, 0x02, 0x04, 0x05, 0x06, 0xFE]
    values = dict(found)
    assert values[0x01] == b"Cardholder"
    assert values[0x04] == b"2029MAY18", "as in the CHUID"
    assert dict(tlv(host.object("chuid")))[0x35] == b"20290518"
    assert len(values[0x05]) == 20 and len(values[0x06]) == 15 and values[0xFE] == b""


@meets("D2", "D5", "D10", "D19")
def test_facial_image(host: Host, tmp_path: Path) -> None:
    """GSA's rules SP800-76.1 to 8, 29 to 39, and CMS.16 to 18 with openssl's word."""
    assert host.get("face") == (b"", "69 82")
    host.verify()
    (tag, cbeff), end = tlv(host.object("face"))
    assert tag == 0xBC and end == (0xFE, b"")
    record, signature = (int.from_bytes(cbeff[a:b], "big") for a, b in ((2, 6), (6, 8)))
    assert len(cbeff) == 88 + record + signature
    assert cbeff[:2] == b"\x03\x0d", "version 3; signed, not encrypted"
    assert cbeff[8:12] == bytes.fromhex("001B 0501"), "INCITS M1, a face"
    for at, date in ((12, "20261129000000"), (20, "20261129000000"), (28, "20290518000000")):
        assert cbeff[at : at + 8] == bytes.fromhex(date) + b"Z"
    assert cbeff[36:39] == b"\x00\x00\x02" and cbeff[39] == 0x20 and cbeff[40] == 0xFE
    assert cbeff[41:59].rstrip(b"\0") == b"vccid"
    fascn = dict(tlv(host.object("chuid")))[0x30]
    assert cbeff[59:84] == fascn == FascN().encode()
    assert cbeff[84:88] == bytes(4)
    face = cbeff[88 : 88 + record]
    assert face[:8] == b"FAC\x00010\x00"
    assert int.from_bytes(face[8:12], "big") == len(face)
    assert face[12:14] == b"\0\1", "one picture"
    assert int.from_bytes(face[14:18], "big") == len(face) - 14
    image = face[34:]
    assert image[:2] == b"\x01\x00", "full frontal, JPEG"
    assert image[2:6] == bytes.fromhex("00F0 0140")
    assert image[6:8] == b"\x01\x02", "sRGB, a camera's"
    assert image[12:] == JPEG
    signed = cbeff[88 + record :]
    (tmp_path / "content").write_bytes(cbeff[: 88 + record])
    issuer = host.card.memory.contents.issuer.certificate
    (tmp_path / "issuer").write_bytes(issuer)
    cms(tmp_path, signed, "-verify", "-noverify", "-binary", "-content", tmp_path / "content",
        "-certfile", tmp_path / "issuer")  # fmt: skip
    shown = cms(tmp_path, signed, "-cmsout", "-print").decode()
    assert "eContentType: undefined (2.16.840.1.101.3.6.2)" in shown
    assert "2.16.840.1.101.3.6.6" in shown and "1.3.6.1.1.16.4" in shown
    assert fascn in signed and host.card.memory.contents.guid in signed


@meets("D8")
def test_the_security_object_has_both(host: Host) -> None:
    host.verify()
    found = dict(tlv(host.object("security object")))
    containers = [found[0xBA][at : at + 3] for at in range(0, len(found[0xBA]), 3)]
    by_container = {entry[1:].hex(): entry[0] for entry in containers}
    assert {"3001", "6030"} <= by_container.keys()
    for name in ("printed information", "face"):
        assert hashlib.sha256(host.object(name)).digest() in found[0xBB]


@pytest.mark.parametrize(
    ("data", "encoding", "size"),
    [(JPEG, 0, (240, 320)), (CODESTREAM, 1, (240, 480)), (JP2, 1, (240, 480))],
)
def test_pictures(data: bytes, encoding: int, size: tuple[int, int]) -> None:
    picture = Picture.parse(data)
    assert (picture.encoding, (picture.width, picture.height)) == (encoding, size)
    for cut in range(len(data) - 2):
        try:
            Picture.parse(data[:cut])
        except VccidError as error:
            assert "JPEG" in error.message


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"\x89PNG\r\n", JPEG[:4] + b"\0" * 30, b"x" + CODESTREAM]
)
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(VccidError, match="neither JPEG nor JPEG 2000"):
        Picture.parse(data)


def test_a_picture_too_large() -> None:
    with pytest.raises(VccidError, match=f"room for {MOST}"):
        Picture.parse(JPEG + bytes(MOST))
    assert Picture.parse(JPEG + bytes(MOST - len(JPEG))).width == 240


def test_a_picture_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeySourceError, match="cannot be read: No such file"):
        Choices(facial_image=str(tmp_path / "none")).picture()
