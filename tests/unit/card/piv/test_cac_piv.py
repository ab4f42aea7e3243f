# SPDX-License-Identifier: LGPL-2.1-or-later
"""A CAC with a PIV end point: which application has a command, and what crossing over ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.key_material import rsa_key, signature_block
from tests.unit.card.piv.host import PIN, Host, credential, elliptic, piv_card
from tests.unit.card.piv.requirements import meets
from vccid.card.cac.cac_card import CacCard
from vccid.card.cac_piv_card import CAC_SHARE, CacPivCard, cac_piv_holder
from vccid.card.card import CardInfo
from vccid.iso7816.atr import CAC_PIV_ATR, Atr
from vccid.keys.ec import P256, Point
from vccid.keys.rsa import Modulus

PKI1 = "A0 00 00 00 79 01 00"
CCC = "A0 00 00 01 16 DB 00"
MICROSOFT = "A0 00 00 03 97 43 49 44 5F 01 00"


async def both() -> CacPivCard:
    given = [credential(f"cert{number}", rsa_key(number)) for number in (1, 2, 3)]
    given.append(credential("cert4", elliptic(0)))
    piv = await piv_card(given)
    cac = CacCard(given[:CAC_SHARE], piv.pin, piv.memory.offload)
    names = [item.name for item in given]
    fresh = lambda: piv.memory.contents  # noqa: E731
    return CacPivCard(piv.memory, piv.pin, piv.puk, fresh, names, CAC_PIV_ATR, cac=cac)


@pytest.fixture
def dual() -> Iterator[Host]:
    host = Host(both())
    yield host
    host.close()


def cac_verify(host: Host, pin: bytes = PIN) -> str:
    return host.hex("00 20 00 00 08 " + pin.ljust(8, b"\xff").hex())


def test_piv_after_a_reset(dual: Host) -> None:
    assert dual.get("chuid")[1] == "90 00"
    dual.select(PKI1)
    assert dual.get("chuid")[1] != "90 00"
    dual.reset()
    assert dual.get("chuid")[1] == "90 00"


@meets("S3", "D27")
def test_the_cac_ends_what_was_proved_to_piv(dual: Host) -> None:
    assert dual.verify() == "90 00"
    assert dual.manage() == "90 00"
    assert dual.select(CCC)[1] == "90 00"
    assert dual.select()[1] == "90 00"
    assert dual.pin_status() == "63 C3"
    assert dual.put("9a", b"x") == "69 82"


@meets("S4")
@pytest.mark.parametrize("name", ["A0 00 00 05 27 20 01 01", MICROSOFT, "D2 76 00 01 24 01"])
def test_a_name_on_neither_changes_nothing(dual: Host, name: str) -> None:
    assert dual.verify() == "90 00"
    assert dual.select(name) == (b"", "6A 82")
    assert dual.pin_status() == "90 00"
    assert dual.select(PKI1)[1] == "90 00"
    assert cac_verify(dual) == "90 00"
    assert dual.select(name) == (b"", "6A 82")
    assert dual.hex("00 20 00 00") == "90 00"


def test_one_pin_and_a_mark_for_each(dual: Host) -> None:
    assert dual.verify(b"000000") == "63 C2"
    assert dual.select(PKI1)[1] == "90 00"
    assert dual.hex("00 20 00 00") == "63 C2"
    assert cac_verify(dual, b"000000") == "63 C1"
    assert cac_verify(dual) == "90 00"
    assert dual.select()[1] == "90 00"
    assert dual.pin_status() == "63 C3", "the counter is one, the mark is not"
    assert dual.verify() == "90 00"
    assert dual.select(PKI1)[1] == "90 00"
    assert dual.hex("00 20 00 00") == "90 00", "the CAC keeps its own until a reset"


def test_one_certificate_in_both_views(dual: Host) -> None:
    block = signature_block(b"message")
    dual.verify()
    by_piv = dual.use(0x07, 0x9A, block)
    dual.select(PKI1)
    cac_verify(dual)
    answer = dual.raw(bytes.fromhex("80 42 00 00 00 01 00") + block)
    assert answer[-2] == 0x61
    assert dual.raw(bytes.fromhex("00 C0 00 00 00"))[:-2] == by_piv
    assert dual.select("A0 00 00 00 79 01 03") == (b"", "6A 82"), "the fourth is PIV's alone"
    dual.select()
    assert isinstance(dual.use(0x11, 0x9E, bytes(32)), bytes)


def test_what_waits_stays_with_its_application(dual: Host) -> None:
    answer = dual.raw(bytes.fromhex("00 CB 3F FF 05 5C 03 5F C1 02 08"))
    assert answer[-2] == 0x61
    dual.select(CCC)
    assert dual.hex("00 C0 00 00 00") == "6A 88"
    dual.raw(bytes.fromhex("00 A4 04 00 0B A0 00 00 03 08 00 00 10 00 01 00 00"))
    assert dual.hex("00 C0 00 00 00") == "69 85"


def test_the_keys_that_both_hold() -> None:
    assert not cac_piv_holder(0).fits(Point(P256, b""))
    assert cac_piv_holder(2).fits(Modulus.of(1 << 2047 | 1))
    assert not cac_piv_holder(0).fits(Modulus.of(1 << 2055 | 1)), "no PIV key has 2056 bits"
    assert cac_piv_holder(3).fits(Point(P256, b""))
    assert "PIV key 9A" in cac_piv_holder(0).name and "(ID)" in cac_piv_holder(0).name


def test_info(dual: Host) -> None:
    info: CardInfo = dual.card.info()
    assert info.kind == "cac+piv" and len(info.slots) == 4
    assert Atr.parse(dual.card.atr).protocols == (1,)
