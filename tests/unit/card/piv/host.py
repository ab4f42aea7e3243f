# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host's side of a PIV card: commands by name, written apart from the code they test."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import Awaitable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.cards import at_once
from tests.key_material import certificate, der, rsa_key
from vccid.card.pin import Pin
from vccid.card.piv.choices import Choices
from vccid.card.piv.contents import CardMemory, Contents, Keeper, MemoryKeeper, SharedContents
from vccid.card.piv.pins import AnyPin, PivPin, Puk
from vccid.card.piv.piv_card import PivCard
from vccid.card.piv.profiles import PLAIN, Profile
from vccid.card.piv.slots import given_keys, guid_of, new_contents
from vccid.card.state import MemoryStateStore
from vccid.iso7816.atr import T1_ATR
from vccid.keys.base import Credential
from vccid.keys.file_key import file_key

T = TypeVar("T")

PIN: Final = b"654321"
PUK: Final = b"12345678"
MANAGEMENT_KEY: Final = bytes.fromhex("0102030405060708" * 3)
NOW: Final = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)

TAGS: Final = {
    "ccc": "5F C1 07", "chuid": "5F C1 02", "discovery": "7E", "key history": "5F C1 0C",
    "security object": "5F C1 06", "printed information": "5F C1 09", "9a": "5F C1 05",
    "9c": "5F C1 0A", "9d": "5F C1 0B", "9e": "5F C1 01", "82": "5F C1 0D",
    "fingerprints": "5F C1 03", "face": "5F C1 08", "iris": "5F C1 21", "pairing": "5F C1 23",
    "biometric group": "7F 61",
}  # fmt: skip


@cache
def elliptic(number: int, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> Any:
    """The same key for the same number."""
    return ec.generate_private_key(curve())


@cache
def credential(name: str, key: Any) -> Credential:
    made = file_key(key)
    assert made is not None
    end = NOW + datetime.timedelta(days=900)
    cert = certificate(name, key.public_key(), NOW - datetime.timedelta(days=1), end)
    return Credential(name, der(cert), made, None)


def credentials() -> list[Credential]:
    """9A P-256, 9C RSA-2048, 9D P-384, 9E P-256, 82 RSA-2048."""
    keys = [elliptic(0), rsa_key(1), elliptic(0, ec.SECP384R1), elliptic(1), rsa_key(2)]
    return [credential(f"cert{number}", key) for number, key in enumerate(keys, start=1)]


async def piv_card(
    given: Sequence[Credential] = (),
    keeper: Keeper | None = None,
    pin: Pin | None = None,
    contents: Contents | None = None,
    profile: Profile = PLAIN,
    number: int = 0,
    secure_messaging: str = "",
    contactless: bool = False,
) -> PivCard:
    """A card in memory, unless `keeper` keeps it."""
    guid = guid_of([item.certificate for item in given])
    store = MemoryStateStore()
    serial = guid.hex()
    card = PivCard(
        CardMemory(
            SharedContents(
                contents
                or new_contents(
                    guid,
                    given,
                    NOW,
                    profile=profile,
                    choices=Choices(secure_messaging=secure_messaging),
                ),
                keeper or MemoryKeeper(),
            ),
            given_keys(given),
            at_once,
        ),
        pin or await (AnyPin if profile.is_double else PivPin).open(store, serial, at_once, PIN),
        await Puk.open(MemoryStateStore(), serial, at_once, PUK),
        lambda: new_contents(guid, given, NOW, profile=profile),
        [item.name for item in given],
        profile.atr,
        profile=profile,
        number=number,
    )
    card.contactless = contactless
    return card


async def conversing_card(atr: bytes = T1_ATR) -> PivCard:
    """The card of `tests.conversations.piv`."""
    keys = (elliptic(0), rsa_key(1), elliptic(1), elliptic(2), rsa_key(2))
    given = [credential(f"cert{number}", key) for number, key in enumerate(keys, start=1)]
    return await piv_card(given, profile=dataclasses.replace(PLAIN, atr=atr))


class Host:
    """A card driven without a loop around. Close it at the end.

    Attributes:
        card: the card.
    """

    def __init__(self, making: Awaitable[PivCard]) -> None:
        self._runner = asyncio.Runner()
        self.card = self.run(making)
        self._session = self.run(self.card.connect())

    def close(self) -> None:
        self._runner.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self._runner.run(wait())

    def reset(self) -> None:
        """A cold reset."""
        self._session.close()
        self._session = self.run(self.card.connect())

    def raw(self, command: bytes) -> bytes:
        """One command APDU, its answer as it comes."""
        answer = self._session.execute(command)
        return answer if isinstance(answer, bytes) else self.run(answer)

    def hex(self, command: str) -> str:
        """The same in hexadecimal."""
        return self.raw(bytes.fromhex(command)).hex(" ").upper()

    def whole(self, header: str, data: bytes = b"", le: bool = True) -> tuple[bytes, str]:
        """A command of any length, chained; all that GET RESPONSE has, and the status word."""
        cla, rest = bytes.fromhex(header)[:1], bytes.fromhex(header)[1:]
        while len(data) > 255:
            chained = bytes((cla[0] | 0x10,)) + rest + b"\xff" + data[:255]
            answer = self.raw(chained)
            if answer != b"\x90\x00":
                return b"", answer.hex(" ").upper()
            data = data[255:]
        length = bytes((len(data),)) if data else b""
        answer = self.raw(cla + rest + length + data + (b"\0" if le else b""))
        found = answer[:-2]
        while answer[-2] == 0x61:
            answer = self.raw(bytes.fromhex("00 C0 00 00") + answer[-1:])
            found += answer[:-2]
        return found, answer[-2:].hex(" ").upper()

    def sw(self, header: str, data: bytes = b"") -> str:
        """The status word alone."""
        return self.whole(header, data)[1]

    # -- commands by name ------------------------------------------------------------------

    def select(self, name: str = "A0 00 00 03 08 00 00 10 00 01 00") -> tuple[bytes, str]:
        return self.whole("00 A4 04 00", bytes.fromhex(name))

    def get(self, name: str) -> tuple[bytes, str]:
        tag = bytes.fromhex(TAGS.get(name, name))
        return self.whole("00 CB 3F FF", b"\x5c" + bytes((len(tag),)) + tag)

    def object(self, name: str) -> bytes:
        """An object's content; it must be there, in a 53 of the shortest length."""
        answer, sw = self.get(name)
        assert sw == "90 00", sw
        (item,) = tlv(answer)
        assert item[0] in (0x53, 0x7E, 0x7F61)
        assert answer == encode(*item)
        return item[1]

    def put(self, name: str, content: bytes) -> str:
        tag = bytes.fromhex(TAGS.get(name, name))
        if name in ("discovery", "biometric group"):
            return self.sw("00 DB 3F FF", encode(int.from_bytes(tag, "big"), content))
        listed = b"\x5c" + bytes((len(tag),)) + tag
        return self.sw("00 DB 3F FF", listed + encode(0x53, content))

    def verify(self, pin: bytes = PIN) -> str:
        return self.sw("00 20 00 80", pin.ljust(8, b"\xff"))

    def pin_status(self) -> str:
        return self.hex("00 20 00 80")

    def change(self, reference: str, old: bytes, new: bytes) -> str:
        return self.sw(f"00 24 00 {reference}", old.ljust(8, b"\xff") + new.ljust(8, b"\xff"))

    def unblock(self, puk: bytes, new: bytes) -> str:
        return self.sw("00 2C 00 80", puk.ljust(8, b"\xff") + new.ljust(8, b"\xff"))

    def authenticate(self, algorithm: int, reference: int, *members: tuple[int, bytes]) -> Any:
        """GENERAL AUTHENTICATE: the member 80, 81 or 82 of the answer, or the status word."""
        template = encode(0x7C, b"".join(encode(*member) for member in members))
        answer, sw = self.whole(f"00 87 {algorithm:02X} {reference:02X}", template)
        if sw != "90 00" or not answer:
            return sw
        ((outer, value),) = tlv(answer)
        ((_, found),) = tlv(value)
        assert outer == 0x7C
        return found

    def use(self, algorithm: int, reference: int, data: bytes, member: int = 0x81) -> Any:
        return self.authenticate(algorithm, reference, (0x82, b""), (member, data))

    def manage(self, key: bytes = MANAGEMENT_KEY, algorithm: int = 0x03) -> str:
        """Mutual authentication with the management key."""
        witness = self.authenticate(algorithm, 0x9B, (0x80, b""))
        if isinstance(witness, str):
            return witness
        cipher = ecb(algorithm, key)
        challenge = bytes(range(len(witness)))
        answer = self.authenticate(
            algorithm, 0x9B, (0x80, decrypt(cipher, witness)), (0x81, challenge), (0x82, b"")
        )
        if isinstance(answer, str):
            return answer
        assert answer == encrypt(cipher, challenge)
        return "90 00"

    def generate(self, reference: int, algorithm: int, more: bytes = b"") -> tuple[bytes, str]:
        template = encode(0xAC, encode(0x80, bytes((algorithm,))) + more)
        return self.whole(f"00 47 00 {reference:02X}", template)


def ecb(algorithm: int, key: bytes) -> Any:
    kind = algorithms.TripleDES if algorithm in (0, 3) else algorithms.AES
    return Cipher(kind(key), modes.ECB())


def encrypt(cipher: Any, block: bytes) -> bytes:
    context = cipher.encryptor()
    return context.update(block) + context.finalize()


def decrypt(cipher: Any, block: bytes) -> bytes:
    context = cipher.decryptor()
    return context.update(block) + context.finalize()


def encode(tag: int, value: bytes) -> bytes:
    """BER-TLV, written apart from the code it tests."""
    name = tag.to_bytes(3, "big").lstrip(b"\0")
    size = len(value)
    if size < 128:
        return name + bytes((size,)) + value
    if size < 256:
        return name + bytes((0x81, size)) + value
    if size < 65536:
        return name + b"\x82" + size.to_bytes(2, "big") + value
    return name + b"\x83" + size.to_bytes(3, "big") + value


def tlv(data: bytes) -> list[tuple[int, bytes]]:
    """BER-TLV taken apart; lengths must be the shortest there are."""
    items = []
    at = 0
    while at < len(data):
        end = at + 1
        if data[at] & 0x1F == 0x1F:
            while data[end] & 0x80:
                end += 1
            end += 1
        tag = int.from_bytes(data[at:end], "big")
        count = data[end]
        end += 1
        if count > 0x80:
            size = count & 0x7F
            count = int.from_bytes(data[end : end + size], "big")
            assert count > 127 and (size == 1 or count >> 8 * (size - 1))
            end += size
        assert end + count <= len(data), "cut short"
        items.append((tag, data[end : end + count]))
        at = end + count
    return items
