# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards from certificates: which PIN they get, and what the user is warned of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.key_material import (
    NssFolder,
    certificate,
    key_pem,
    p12,
    pem,
    rsa_key,
    signature_block,
)
from vccid.backends.certificates import CertificateBackend, CertificateCard, CertificateRequest
from vccid.card.card import Card, Session
from vccid.card.state import StateStore
from vccid.errors import KeySourceError, PasswordNeeded, SourceUnusable, VccidError, WrongPassword
from vccid.iso7816.atr import CAC_T1_ATR, LIBCACARD_ATR
from vccid.keys.registry import TOKENS
from vccid.readers.card_threads import CardThreads

PASSWORD = b"correct horse"
OK = b"\x90\x00"
FACTORY = "the card's PIN is the factory PIN 123456; vccidctl pin reset sets another"

#: PKI applet 1 of the CAC.
SELECT_PKI = bytes.fromhex(
    "00 A4 04 00"  # SELECT by name
    "07 A0 00 00 00 79 01 00"  # Lc, RID and PIX
)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NssFolder]:
    folder = tmp_path_factory.mktemp("nss")
    return {
        "plain": NssFolder(folder / "plain", "", "cert1", "cert2", "cert3"),
        "secret": NssFolder(folder / "secret", PASSWORD.decode(), "cert1", "cert2"),
        "other": NssFolder(folder / "other", PASSWORD.decode(), "cert1"),
    }


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three PEM files with keys."""
    paths = []
    for number in range(3):
        cert = certificate(f"file {number}", rsa_key(number).public_key())
        path = tmp_path / f"file{number}.pem"
        path.write_bytes(pem(cert) + key_pem(rsa_key(number)))
        paths.append(str(path))
    return paths


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """CREDENTIALS_DIRECTORY, empty."""
    (tmp_path / "credentials").mkdir()
    return tmp_path / "credentials"


@pytest.fixture
def backend(tmp_path: Path, credentials: Path) -> CertificateBackend:
    return CertificateBackend(StateStore(tmp_path / "cards"), CardThreads, credentials)


def request(*items: str, database: NssFolder | None = None) -> CertificateRequest:
    return CertificateRequest(items, str(database.path) if database else "/nowhere")


@asynccontextmanager
async def made(
    making: Coroutine[None, None, tuple[Card, list[str]]],
) -> AsyncIterator[tuple[Card, list[str]]]:
    """A card and its warnings; the databases behind it are let go afterwards."""
    card, warnings = await making
    assert isinstance(card, CertificateCard)
    try:
        yield card, warnings
    finally:
        card.close()
        card.close()
        assert card.release.done is not None
        await card.release.done


async def verify(session: Session, pin: bytes) -> bytes:
    field = pin if len(pin) > 8 else pin.ljust(8, b"\xff")
    return await session.transmit(b"\x00\x20\x00\x00" + bytes([len(field)]) + field)


async def signs(session: Session) -> bool:
    """Whether PKI applet 1 signs: two parts, for 256 bytes do not fit a short APDU."""
    assert (await session.transmit(SELECT_PKI))[-2:-1] in (b"\x90", b"\x61")
    block = signature_block(b"message")
    assert await session.transmit(b"\x80\x42\x80\x00\xf0" + block[:240]) == OK
    answer = await session.transmit(b"\x80\x42\x00\x00\x10" + block[240:])
    return answer[:1] == b"\x61" or answer[-2:] == OK


async def test_files_make_a_card_with_the_factory_pin(
    backend: CertificateBackend, files: list[str]
) -> None:
    async with made(backend.card(request(*files))) as (card, warnings):
        assert warnings == [FACTORY]
        info = card.info()
        assert (info.kind, info.pin_kind, info.tries_left) == ("cac", "card", 3)
        assert info.names == tuple(files)
        assert card.atr == LIBCACARD_ATR
        session = await card.connect()
        assert not await signs(session)
        assert await verify(session, b"123456") == OK
        assert await signs(session)


async def test_the_other_answer_to_reset(backend: CertificateBackend, files: list[str]) -> None:
    wanted = CertificateRequest(tuple(files), atr="t1")
    async with made(backend.card(wanted)) as (card, _):
        assert card.atr == CAC_T1_ATR


async def test_a_pin_of_its_own_stays_with_the_card(
    backend: CertificateBackend, files: list[str]
) -> None:
    async with made(backend.card(request(*files), pin=b"4711")) as (card, warnings):
        assert warnings == []
        session = await card.connect()
        assert await verify(session, b"123456") == b"\x63\xc2"
    async with made(backend.card(request(*files))) as (card, warnings):
        assert warnings == []
        assert card.info().tries_left == 2
        session = await card.connect()
        assert await verify(session, b"4711") == OK
    async with made(backend.card(request(*files), pin=b"0815")) as (card, warnings):
        assert warnings == ["the card keeps the PIN it had before; vccidctl pin reset sets another"]
        session = await card.connect()
        assert await verify(session, b"4711") == OK


async def test_a_pin_no_card_can_have(backend: CertificateBackend, files: list[str]) -> None:
    with pytest.raises(VccidError) as caught:
        await backend.card(request(*files), pin=b"123456789")
    assert "123456789" not in caught.value.message + caught.value.hint


async def test_damaged_state_is_told_and_the_card_shown(
    backend: CertificateBackend, files: list[str], tmp_path: Path
) -> None:
    async with made(backend.card(request(*files))) as (card, _):
        (tmp_path / "cards" / f"{card.info().serial}.json").write_text("{")
    async with made(backend.card(request(*files))) as (card, warnings):
        assert len(warnings) == 1 and "no PIN is accepted" in warnings[0]
        session = await card.connect()
        assert await verify(session, b"123456") == b"\x69\x83"


async def test_one_locked_token_lends_its_pin(
    backend: CertificateBackend, databases: dict[str, NssFolder], files: list[str]
) -> None:
    wanted = request("cert1", files[0], "cert2", database=databases["secret"])
    async with made(backend.card(wanted)) as (card, warnings):
        assert warnings == []
        assert card.info().pin_kind == "token"
        session = await card.connect()
        assert await verify(session, b"wrong") == b"\x63\xc2"
        assert not await signs(session)
        assert await verify(session, PASSWORD) == OK
        assert await signs(session)
        other = await card.connect()
        assert not await signs(other), "a login is the process's, a verified PIN a session's"
        assert await verify(other, b"wrong") == b"\x63\xc2"
        assert await verify(other, PASSWORD) == OK


async def test_a_password_at_insert_is_checked_at_insert(
    backend: CertificateBackend, databases: dict[str, NssFolder]
) -> None:
    secret = databases["secret"]
    with pytest.raises(WrongPassword) as caught:
        await backend.card(request("cert1", "cert2", "cert1", database=secret), b"no")
    assert caught.value.message == f"wrong password for {secret.path}"
    wanted = request("cert1", "cert2", "cert1", database=secret)
    async with made(backend.card(wanted, PASSWORD)) as (card, _):
        assert card.info().pin_kind == "token"
        session = await card.connect()
        assert not await signs(session)
        assert await verify(session, b"no") == b"\x63\xc2"
        assert await verify(session, PASSWORD) == OK
        assert await signs(session)


@pytest.mark.parametrize("name", ["vccid.password", "vccid.password.secret"])
async def test_a_password_from_systemd(
    backend: CertificateBackend,
    databases: dict[str, NssFolder],
    credentials: Path,
    name: str,
) -> None:
    (credentials / name).write_bytes(PASSWORD + b"\n")
    wanted = request("cert1", "cert2", "cert1", database=databases["secret"])
    async with made(backend.card(wanted, pin=b"4711")) as (card, _):
        session = await card.connect()
        assert await verify(session, b"4711") == OK
        assert await signs(session)


async def test_a_pin_of_its_own_needs_the_tokens_password_now(
    backend: CertificateBackend, databases: dict[str, NssFolder]
) -> None:
    secret = databases["secret"]
    wanted = request("cert1", "cert2", "cert1", database=secret)
    with pytest.raises(PasswordNeeded) as caught:
        await backend.card(wanted, pin=b"4711")
    assert caught.value.message == f"{secret.path} needs a password"
    async with made(backend.card(wanted, PASSWORD, b"4711")) as (card, warnings):
        assert warnings == []
        assert card.info().pin_kind == "card"
        session = await card.connect()
        assert await verify(session, b"4711") == OK
        assert await signs(session)
    async with made(backend.card(wanted, PASSWORD)) as (card, warnings):
        assert card.info().pin_kind == "card"
        assert warnings == [
            "the card keeps the PIN of its own that was set before, not the token's"
        ]
    async with made(backend.card(wanted)) as (card, warnings):
        assert (card.info().pin_kind, warnings) == ("token", [])


async def test_another_cards_login_is_no_password(
    backend: CertificateBackend, databases: dict[str, NssFolder]
) -> None:
    wanted = request("cert1", "cert2", "cert1", database=databases["secret"])
    async with made(backend.card(wanted, PASSWORD)):
        with pytest.raises(PasswordNeeded):
            await backend.card(wanted, pin=b"4711")
        with pytest.raises(WrongPassword):
            await backend.card(wanted, b"wrong", b"4711")


async def test_the_factory_pin_never_opens_a_token(
    backend: CertificateBackend, tmp_path: Path
) -> None:
    database = NssFolder(tmp_path / "db", "", "cert1")
    async with made(backend.card(request("cert1", database=database))) as (card, warnings):
        assert FACTORY in warnings
    (tmp_path / "new").write_bytes(PASSWORD + b"\n")
    (tmp_path / "old").write_bytes(b"\n")
    database.certutil("-W", "-f", tmp_path / "old", "-@", tmp_path / "new")
    async with made(backend.card(request("cert1", database=database), PASSWORD)) as (card, _):
        assert card.info().pin_kind == "token"


async def test_an_encrypted_file_lends_no_pin(
    backend: CertificateBackend, databases: dict[str, NssFolder], tmp_path: Path
) -> None:
    """A PKCS#12 file is opened once and for all, so it takes no part in the choice."""
    bundle = tmp_path / "bundle.p12"
    bundle.write_bytes(p12(rsa_key(1), certificate("b", rsa_key(1).public_key()), PASSWORD))
    wanted = request("cert1", str(bundle), database=databases["secret"])
    with pytest.raises(PasswordNeeded, match="bundle.p12 needs a password"):
        await backend.card(wanted)
    async with made(backend.card(wanted, PASSWORD)) as (card, _):
        assert card.info().pin_kind == "token"


@pytest.mark.parametrize(
    ("count", "says"),
    [(1, "neither a signature nor an encryption"), (2, "no encryption"), (4, "CAC Cert 4 to 4")],
)
async def test_other_than_three(
    backend: CertificateBackend, files: list[str], count: int, says: str
) -> None:
    async with made(backend.card(request(*(files * 2)[:count]))) as (_, warnings):
        assert says in warnings[0]


@pytest.mark.parametrize("count", [0, 11])
async def test_too_few_and_too_many(
    backend: CertificateBackend, files: list[str], count: int
) -> None:
    with pytest.raises(KeySourceError, match=f"1 to 10 certificates, not {count}"):
        await backend.card(request(*(files * 4)[:count]))


async def test_the_same_certificates_are_the_same_card(
    backend: CertificateBackend, files: list[str]
) -> None:
    async with made(backend.card(request(*files))) as (one, _):
        async with made(backend.card(request(*files))) as (two, _):
            assert one.info().serial == two.info().serial
        async with made(backend.card(request(*reversed(files)))) as (three, _):
            assert one.info().serial != three.info().serial


async def test_a_failed_request_lets_go_of_what_it_held(
    backend: CertificateBackend, databases: dict[str, NssFolder]
) -> None:
    for _ in range(3):
        with pytest.raises(KeySourceError):
            await backend.card(request("cert1", "nosuch", database=databases["plain"]))
        with pytest.raises(SourceUnusable):
            await backend.card(request("cert1", "/nosuch.pem", database=databases["plain"]))
    while backend._closing:
        await asyncio.sleep(0)
    folder = databases["plain"].path.resolve()
    assert not TOKENS.in_use(lambda key: isinstance(key, tuple) and key[1] == folder)


async def test_a_slow_source_holds_up_no_other_card(
    backend: CertificateBackend, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More slow requests at once than any one pool has threads."""
    gate = threading.Event()

    def slow_database(database: str, environment: tuple[str, ...]) -> None:
        gate.wait()
        raise SourceUnusable("slow")

    monkeypatch.setattr("vccid.keys.load.lease_database", slow_database)
    slow = [asyncio.ensure_future(backend.card(request("cert1"))) for _ in range(8)]
    try:
        await asyncio.sleep(0)
        async with made(backend.card(request(*files))) as (card, _):
            assert card.info().kind == "cac"
            assert not any(task.done() for task in slow)
    finally:
        gate.set()
        answers = await asyncio.gather(*slow, return_exceptions=True)
    assert all(isinstance(answer, SourceUnusable) for answer in answers)


async def test_an_nss_password_is_not_changed_through_the_card(
    backend: CertificateBackend, tmp_path: Path
) -> None:
    """The database is open read-only: refused before a try is spent, and not by a riddle."""
    database = NssFolder(tmp_path / "db", "12345678", "cert1")
    async with made(backend.card(request("cert1", database=database))) as (card, _):
        session = await card.connect()
        change = bytes.fromhex("00 24 00 00 10") + b"12345678" + b"87654321"
        assert (await session.transmit(change)).hex() == "6985"
        assert card.info().tries_left == 3
        assert await verify(session, b"12345678") == OK
