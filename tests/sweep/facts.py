# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be told of a card and its readers from outside, fact by fact."""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.sweep.house import READER, House

Facts = dict[str, str]

SUCCESS = bytes.fromhex("9000")

PINS = (b"123456", b"654321")
PUKS = (b"12345678", b"87654321")
MANAGEMENT_KEYS = (bytes.fromhex("0102030405060708" * 3), bytes.fromhex("1112131415161718" * 3))

OBJECTS = {
    "CHUID": 0x5FC102,
    "CCC": 0x5FC107,
    "certificate 9A": 0x5FC105,
    "object 5FFF00": 0x5FFF00,
    "object 5FFF11": 0x5FFF11,
}
KEYS = (0x9A, 0x9C, 0x9D, 0x9E, 0x82)


def verify(pin: bytes) -> bytes:
    return bytes.fromhex("00 20 00 80 08") + pin.ljust(8, b"\xff")


def get_data(tag: int) -> bytes:
    return bytes.fromhex("00 CB 3F FF 05 5C 03") + tag.to_bytes(3, "big") + b"\0"


def put_data(tag: int, content: bytes) -> bytes:
    data = bytes.fromhex("5C 03") + tag.to_bytes(3, "big") + b"\x53\x81" + bytes((len(content),))
    data += content
    return bytes.fromhex("00 DB 3F FF") + bytes((len(data),)) + data


async def prove_management(house: House, key: bytes = MANAGEMENT_KEYS[0]) -> bool:
    """External authentication with a key of 3DES."""
    challenge = await house.apdu(bytes.fromhex("00 87 03 9B 04 7C 02 81 00 00"))
    cipher = Cipher(algorithms.TripleDES(key), modes.ECB()).encryptor()
    response = bytes.fromhex("00 87 03 9B 0C 7C 0A 82 08") + cipher.update(challenge[4:12])
    return await house.apdu(response) == SUCCESS


async def told(house: House) -> Facts:
    """What is told by who is asked; nothing is written by that."""
    status = await house.call("Status")
    facts: Facts = {}
    for reader in status["readers"]:
        attached = [f"{to['kind']} {to['address']}".strip() for to in reader["frontends"]]
        facts[f"reader {reader['name']}"] = ", ".join(sorted(attached))
    if not house.has_card:
        return {**facts, "card": "none"}
    facts["card"] = next(r for r in status["readers"] if r["name"] == READER)["card"]["serial"]
    await house.power_on()
    for name, reference in (("PIN", 0x80), ("PUK", 0x81)):
        answer = await house.apdu(bytes((0x00, 0xF7, 0x00, reference, 0x00)))
        limit, tries = answer[-4], answer[-3]
        assert 0 <= tries <= limit, f"{tries} tries of {limit}"
        facts[f"{name} tries"] = str(tries)
        facts[f"{name} limit"] = str(limit)
        facts[f"{name} factory"] = answer[5:6].hex()
    for reference in KEYS:
        answer = await house.apdu(bytes((0x00, 0xF7, 0x00, reference, 0x00)))
        facts[f"key {reference:02X}"] = _digest(answer)
    for name, tag in OBJECTS.items():
        facts[name] = _digest(await house.apdu(get_data(tag)))
    return facts


async def proved(house: House) -> Facts:
    """What is found out by trying, with all tries given back first; and that the card works."""
    if not house.has_card:
        return {}
    await house.power_on()
    facts: Facts = {}
    for parameters in ({}, {"puk": True}):
        await house.call("ResetPin", reader=READER, **parameters)
    for pin in PINS:
        if await house.apdu(verify(pin)) == SUCCESS:
            facts["PIN is"] = pin.decode()
    for puk in PUKS:
        if await house.apdu(bytes.fromhex("00 24 00 81 10") + puk + puk) == SUCCESS:
            facts["PUK is"] = puk.decode()
    for key in MANAGEMENT_KEYS:
        if await prove_management(house, key):
            facts["management key is"] = key.hex()
            break
    assert await house.apdu(put_data(0x5FFF15, b"\x05" * 99)) == SUCCESS, "nothing can be written"
    written = await house.apdu(get_data(0x5FFF15))
    assert written == bytes.fromhex("53 63") + b"\x05" * 99 + SUCCESS, written.hex()
    for reference in (0x9A, 0x9E):
        if not (await house.apdu(bytes((0x00, 0xF7, 0x00, reference, 0x00)))).endswith(SUCCESS):
            continue
        signed = await house.apdu(
            bytes((0x00, 0x87, 0x11, reference, 0x26))
            + bytes.fromhex("7C 24 82 00 81 20")
            + bytes(32)
            + b"\0"
        )
        facts[f"key {reference:02X} signs"] = str(signed.endswith(SUCCESS))
    return facts


def secret(text: bytes) -> str:
    """As the control socket takes it."""
    return base64.b64encode(text).decode()


def _digest(answer: bytes) -> str:
    """Short, and the same for the same; a status word where that is all."""
    return answer.hex() if len(answer) == 2 else hashlib.sha256(answer).hexdigest()[:16]
