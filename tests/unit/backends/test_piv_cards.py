# SPDX-License-Identifier: LGPL-2.1-or-later
"""PIV cards as the backend makes them: what they are made of, what they keep and where."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.key_material import certificate, key_pem, pem, rsa_key
from tests.unit.card.piv.test_optional_objects import JPEG
from vccid.backends.certificates import CertificateBackend, CertificateRequest
from vccid.card.pin import CardPin, Verdict
from vccid.card.piv.piv_card import PivCard
from vccid.card.state import StateStore
from vccid.errors import KeySourceError, KeyUnsuitable, StateError, VccidError
from vccid.readers.card_threads import CardThreads

PIN = b"314159"
GET_9A = bytes.fromhex("00 CB 3F FF 05 5C 03 5F C1 05 00")


@pytest.fixture(autouse=True)
def cheap_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vccid.card.pin.SCRYPT_COST", 16)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """CREDENTIALS_DIRECTORY, empty."""
    (tmp_path / "credentials").mkdir()
    return tmp_path / "credentials"


def new_backend(tmp_path: Path) -> CertificateBackend:
    """As after a restart of the daemon."""
    return CertificateBackend(StateStore(tmp_path / "cards"), CardThreads, tmp_path / "credentials")


@pytest.fixture
def backend(tmp_path: Path, credentials: Path) -> CertificateBackend:
    return new_backend(tmp_path)


def pair(tmp_path: Path, key: Any, name: str = "pair") -> str:
    path = tmp_path / f"{name}.pem"
    path.write_bytes(pem(certificate(name, key.public_key())) + key_pem(key))
    return str(path)


def request(*items: str, **more: Any) -> CertificateRequest:
    return CertificateRequest(items, "/nowhere", card="piv", **more)


async def make(backend: CertificateBackend, wanted: CertificateRequest, **how: Any) -> PivCard:
    card, _ = await backend.card(wanted, **how)
    assert isinstance(card, PivCard)
    return card


async def write(card: PivCard, content: bytes) -> None:
    """What a host would write into 9A's certificate."""
    await card.memory.change(lambda contents: contents.with_object(0x5FC105, content))


async def read(card: PivCard) -> bytes:
    return await (await card.connect()).transmit(GET_9A)


async def test_of_every_kind_of_key(backend: CertificateBackend, tmp_path: Path) -> None:
    keys = [
        ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1()),
        rsa_key(1), ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 1024),
    ]  # fmt: skip
    items = [pair(tmp_path, key, f"k{number}") for number, key in enumerate(keys)]
    card, warnings = await backend.card(request(*items), pin=PIN)
    assert warnings == []
    slots = [(slot.reference, slot.algorithm, slot.pin) for slot in card.info().slots]
    assert slots == [
        ("9A", "P-256", "once"), ("9C", "P-384", "always"), ("9D", "RSA-2048", "once"),
        ("9E", "Ed25519", "never"), ("82", "RSA-1024", "once"),
    ]  # fmt: skip
    assert [slot.source for slot in card.info().slots] == items


async def test_a_key_that_no_piv_card_holds(backend: CertificateBackend, tmp_path: Path) -> None:
    item = pair(tmp_path, ec.generate_private_key(ec.SECP521R1()))
    with pytest.raises(KeyUnsuitable) as caught:
        await backend.card(request(item))
    assert caught.value.message == (
        f"the key of certificate {item} is EC on secp521r1,"
        " which PIV key 9A (PIV Authentication) cannot hold"
    )
    cac = CertificateRequest((pair(tmp_path, ec.generate_private_key(ec.SECP256R1())),), "/nowhere")
    with pytest.raises(KeyUnsuitable) as caught:
        await backend.card(cac)
    assert "--card piv takes EC keys too" in caught.value.hint


@pytest.mark.parametrize("count", [0, 25])
async def test_too_few_or_too_many(backend: CertificateBackend, count: int) -> None:
    with pytest.raises(KeySourceError, match=f"1 to 24 certificates, not {count}"):
        await backend.card(request(*["x"] * count))


@pytest.mark.parametrize("pin", [b"12345", b"123456789", b"abcdef", b"12 456"])
async def test_a_pin_that_no_piv_card_has(
    backend: CertificateBackend, tmp_path: Path, pin: bytes
) -> None:
    with pytest.raises(VccidError, match="a PIV card's PIN has 6 to 8 digits"):
        await backend.card(request(pair(tmp_path, rsa_key(1))), pin=pin)


@pytest.mark.parametrize("blank", [False, True])
async def test_what_was_written_is_there_again(
    backend: CertificateBackend, tmp_path: Path, blank: bool
) -> None:
    wanted = request(serial=uuid.uuid4().hex) if blank else request(pair(tmp_path, rsa_key(1)))
    card = await make(backend, wanted, pin=PIN)
    before = await read(card)
    await write(card, b"written")
    card.close()
    for again in (backend, new_backend(tmp_path)):
        card = await make(again, wanted)
        assert await read(card) == b"\x53\x07written\x90\x00"
        assert card.serial == (wanted.serial or card.serial)
        card.close()
    await card.start_again()
    assert await read(card) == before
    assert await read(await make(new_backend(tmp_path), wanted)) == before
    assert not card.pin.factory, "it was given one when it was new"
    assert await card.pin.verify(PIN) == (Verdict.RIGHT, 3)


async def test_reset_to_the_pin_it_was_new_with(
    backend: CertificateBackend, tmp_path: Path
) -> None:
    """Whatever was made of PIN and PUK since, by a host or who owns the card."""
    wanted = request(pair(tmp_path, rsa_key(1)))
    card = await make(backend, wanted, pin=b"333333")
    await card.pin.change(b"333333", b"444444")
    await card.puk.change(b"12345678", b"87654321")
    await card.pin.reset(b"555555")
    card.close()
    card = await make(new_backend(tmp_path), wanted)
    await card.start_again()
    assert await card.pin.verify(b"333333") == (Verdict.RIGHT, 3)
    assert await card.puk.verify(b"12345678") == (Verdict.RIGHT, 3)
    assert isinstance(card.pin, CardPin)
    await card.pin.start_again(5)  # what a host resets is the factory's, as its tools expect
    assert await card.pin.verify(b"123456") == (Verdict.RIGHT, 5)
    await card.start_again()
    assert await card.pin.verify(b"333333") == (Verdict.RIGHT, 3)


async def test_objects_on_request(backend: CertificateBackend, tmp_path: Path) -> None:
    """A card with other objects is another card; the picture is looked at when it is new."""
    face, key = tmp_path / "face", pair(tmp_path, rsa_key(1))
    face.write_bytes(JPEG)
    plain = await make(backend, request(key))
    wanted = request(key, printed_information=True, facial_image=str(face))
    card = await make(backend, wanted)
    assert card.serial != plain.serial
    assert set(card.memory.contents.objects) - set(plain.memory.contents.objects) == {
        0x5FC108, 0x5FC109,
    }  # fmt: skip
    card.close()
    face.unlink()
    again = await make(new_backend(tmp_path), wanted)
    assert again.memory.contents.objects[0x5FC108].count(JPEG) == 1
    with pytest.raises(KeySourceError, match="face cannot be read: No such file"):
        await again.start_again()
    assert 0x5FC108 in again.memory.contents.objects
    with pytest.raises(KeySourceError, match="face cannot be read"):
        await make(backend, request(serial=uuid.uuid4().hex, facial_image=str(face)))


async def test_in_memory(backend: CertificateBackend, tmp_path: Path) -> None:
    wanted = request(pair(tmp_path, rsa_key(1)), in_memory=True)
    card = await make(backend, wanted, pin=PIN)
    await write(card, b"written")
    assert await read(card) == b"\x53\x07written\x90\x00"
    card.close()
    assert (await read(await make(backend, wanted)))[:2] == b"\x53\x82"
    assert list((tmp_path / "cards").iterdir()) == []


async def test_in_two_readers_at_once(backend: CertificateBackend, tmp_path: Path) -> None:
    wanted = request(serial=uuid.uuid4().hex)
    one, two = await make(backend, wanted), await make(backend, wanted)
    await write(one, b"by one")
    assert await read(two) == b"\x53\x06by one\x90\x00"
    await two.memory.change(lambda contents: contents.with_object(0x5FFF00, b"x"))
    assert await read(one) == b"\x53\x06by one\x90\x00"


async def test_keys_at_rest(backend: CertificateBackend, tmp_path: Path, credentials: Path) -> None:
    wanted = request(serial=uuid.uuid4().hex)
    file = tmp_path / "cards" / f"{wanted.serial}.piv.json"
    await make(backend, wanted)
    assert b'"plain"' in file.read_bytes()
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o600}
    other = request(serial=uuid.uuid4().hex)
    (credentials / "vccid.card-key").write_bytes(b"32 bytes that nobody else has...")
    await make(new_backend(tmp_path), other)
    sealed = tmp_path / "cards" / f"{other.serial}.piv.json"
    assert b'"plain"' not in sealed.read_bytes()
    assert await read(await make(new_backend(tmp_path), wanted)), "what was plain is read still"
    (credentials / "vccid.card-key").unlink()
    with pytest.raises(StateError, match="is encrypted, and there is no key for it"):
        await make(new_backend(tmp_path), other)
    (credentials / "vccid.card-key").write_bytes(b"")
    with pytest.raises(StateError, match="is empty"):
        await make(new_backend(tmp_path), wanted)


async def test_a_damaged_file_is_told(backend: CertificateBackend, tmp_path: Path) -> None:
    wanted = request(serial=uuid.uuid4().hex)
    await make(backend, wanted)
    file = tmp_path / "cards" / f"{wanted.serial}.piv.json"
    file.write_text("{")
    with pytest.raises(StateError, match="is damaged"):
        await make(new_backend(tmp_path), wanted)
    assert file.read_text() == "{"
