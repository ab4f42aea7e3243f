# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cards for tests: keys made on the spot, a token in memory, and a card driven without a loop."""

from __future__ import annotations

import asyncio
import datetime
import functools
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from tests.answers import Answer
from tests.key_material import p12_for_nss
from vccid.card.cac.cac_card import CacCard, card_serial
from vccid.card.login import TokenLogin
from vccid.card.pin import CardPin, TokenPin
from vccid.card.session import CardSession
from vccid.card.state import StateStore
from vccid.errors import KeyOperationError, WrongPassword
from vccid.iso7816 import status
from vccid.keys.base import Credential, RsaPrivateKey, Token

T = TypeVar("T")

PIN = b"12345678"


async def at_once(work: Callable[[], T]) -> T:
    """An offload that does the work where it is."""
    return work()


async def in_thread(work: Callable[[], T]) -> T:
    """An offload that does the work as the daemon does."""
    return await asyncio.to_thread(work)


class RsaKey(RsaPrivateKey):
    """An RSA key in memory. Slow, and no example: Python's `pow` is not constant-time.

    Attributes:
        key: the same for the cryptography library.
    """

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self.key = key
        self._numbers = key.private_numbers()
        self._size = key.key_size

    @property
    def size_bits(self) -> int:
        return self._size

    def raw(self, block: bytes) -> bytes:
        # With the Chinese remainder theorem (RFC 8017, 5.1.2), three times as fast as without.
        numbers, value = self._numbers, int.from_bytes(block, "big")
        modulus = numbers.public_numbers.n
        if len(block) * 8 != self._size or value >= modulus:
            raise KeyOperationError("the block does not fit the key")
        m1 = pow(value, numbers.dmp1, numbers.p)
        m2 = pow(value, numbers.dmq1, numbers.q)
        result = m2 + (m1 - m2) * numbers.iqmp % numbers.p * numbers.q
        return result.to_bytes(len(block), "big")


class MemoryToken(Token):
    """A token whose PIN is known, and that keeps what it was asked.

    Attributes:
        asked: every PIN given to `login`.
    """

    def __init__(self, pin: bytes = PIN) -> None:
        self.pin = pin
        self.asked: list[bytes] = []
        self._logged_in = False

    @property
    def name(self) -> str:
        return "memory"

    @property
    def login_required(self) -> bool:
        return True

    @property
    def logged_in(self) -> bool:
        return self._logged_in

    @property
    def tries_left(self) -> int | None:
        return None

    def login(self, pin: bytes) -> None:
        self.asked.append(pin)
        if pin != self.pin:
            raise WrongPassword("wrong PIN for memory")
        self._logged_in = True

    def logout(self) -> None:
        self._logged_in = False

    def change_pin(self, old: bytes, new: bytes) -> None:
        if old != self.pin:
            raise WrongPassword("wrong PIN for memory")
        self.pin = new


@functools.cache
def credential(name: str, bits: int = 2048) -> Credential:
    """A self-signed certificate with its key; the same one whenever it is asked for."""
    key = _new_key(bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2024, 1, 1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return Credential(name, certificate.public_bytes(Encoding.DER), RsaKey(key), None)


def _new_key(bits: int) -> rsa.RSAPrivateKey:
    if bits >= 1024:
        return rsa.generate_private_key(65537, bits)
    # Debian 13's cryptography makes none as small.
    made = subprocess.run(["openssl", "genrsa", str(bits)], check=True, capture_output=True)
    key = load_pem_private_key(made.stdout, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def pkcs12_of(item: Credential, password: str) -> bytes:
    """A credential of `credential` as a PKCS#12 file."""
    assert isinstance(item.key, RsaKey)
    certificate = x509.load_der_x509_certificate(item.certificate)
    return p12_for_nss(item.name, item.key.key, certificate, password)


def three_credentials() -> list[Credential]:
    """The CAC's norm: ID, signature, encryption."""
    return [credential(f"cert{number}") for number in (1, 2, 3)]


def serial_of(credentials: Sequence[Credential]) -> str:
    return card_serial([item.certificate for item in credentials])


async def card_with_pin(
    credentials: Sequence[Credential], directory: Path, pin: bytes = PIN, **options: Any
) -> CacCard:
    """A card with a PIN of its own, its state in `directory`."""
    opened = await CardPin.open(StateStore(directory), serial_of(credentials), at_once, pin)
    return CacCard(credentials, opened, at_once, **options)


async def card_with_token(
    credentials: Sequence[Credential], directory: Path, token: Token
) -> CacCard:
    """A card whose PIN is a token's, its state in `directory`."""
    opened = await TokenPin.open(
        TokenLogin(token), StateStore(directory), serial_of(credentials), at_once
    )
    return CacCard(credentials, opened, at_once)


class Driver:
    """A card driven without a loop around: APDU in, APDU out. Close it at the end.

    Attributes:
        pin: its PIN, unless it was made with another.
        card: the card.
        session: the session with it since the last power-on.
    """

    def __init__(self, making: Awaitable[CacCard]) -> None:
        self.pin = PIN
        self._runner = asyncio.Runner()
        self.card = self.run(making)
        self.session: CardSession = self.run(self.card.connect())

    def close(self) -> None:
        self._runner.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self._runner.run(wait())

    def power_on(self) -> bytes:
        """A cold reset; returns the ATR."""
        self.session.close()
        self.session = self.run(self.card.connect())
        return self.session.atr

    def remove(self) -> None:
        """Out of the reader: the session is over."""
        self.session.close()

    def insert(self) -> None:
        """Back again."""
        self.power_on()

    def transmit(self, command: bytes) -> Answer:
        answer = self.session.execute(command)
        return Answer(answer if isinstance(answer, bytes) else self.run(answer), command)

    def send(self, command: str) -> Answer:
        """The same, the command in hexadecimal."""
        return self.transmit(bytes.fromhex(command))

    def hex(self, command: str) -> str:
        """The same, both ways in hexadecimal."""
        return self.transmit(bytes.fromhex(command)).hex(" ").upper()

    def whole(self, command: str) -> bytes:
        """What a command tells, with all that GET RESPONSE has to add; it must succeed."""
        answer = self.transmit(bytes.fromhex(command))
        data = answer[:-2]
        while answer[-2] == 0x61:
            answer = self.transmit(bytes.fromhex("00 C0 00 00") + answer[-1:])
            data += answer[:-2]
        assert answer[-2:] == status.SUCCESS
        return data


def select_command(aid: str, le: str = "00") -> str:
    """SELECT by name, in hexadecimal."""
    return f"00 A4 04 00 {len(bytes.fromhex(aid)):02X} {aid} {le}"
